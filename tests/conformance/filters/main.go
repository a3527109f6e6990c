// SPDX-License-Identifier: Apache-2.0

// Filters tells what containerd's own package makes of filters: it reads a list of cases as JSON, and writes for each
// the error of parsing, or the numbers of the snapshots that match.
package main

import (
	"encoding/json"
	"io"
	"log"
	"os"
	"strings"

	containerdlog "github.com/containerd/log"

	"github.com/containerd/containerd/v2/pkg/filters"
)

type snapshot struct {
	Kind   string            `json:"kind"`
	Name   string            `json:"name"`
	Parent string            `json:"parent"`
	Labels map[string]string `json:"labels"`
}

type answer struct {
	Error   string `json:"error"`
	Matches []int  `json:"matches"`
}

// Field has the fields that containerd's snapshotters have (adaptSnapshot in core/snapshots/storage/bolt.go, which
// is not exported).
func (s snapshot) Field(path []string) (string, bool) {
	switch path[0] {
	case "kind":
		return s.Kind, true
	case "name":
		return s.Name, true
	case "parent":
		return s.Parent, true
	case "labels":
		value, ok := s.Labels[strings.Join(path[1:], ".")]
		return value, ok
	}
	return "", false
}

func main() {
	containerdlog.L.Logger.SetOutput(io.Discard)
	var input struct {
		Snapshots []snapshot `json:"snapshots"`
		Cases     [][]string `json:"cases"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&input); err != nil {
		log.Fatal(err)
	}
	answers := []answer{}
	for _, texts := range input.Cases {
		answer := answer{Matches: []int{}}
		filter, err := filters.ParseAll(texts...)
		if err != nil {
			answer.Error = err.Error()
		} else {
			for i, s := range input.Snapshots {
				if filter.Match(s) {
					answer.Matches = append(answer.Matches, i)
				}
			}
		}
		answers = append(answers, answer)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		log.Fatal(err)
	}
}

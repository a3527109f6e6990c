// SPDX-License-Identifier: Apache-2.0

// Package conformance runs containerd's own tests of snapshotters against `lamella serve --containerd`.
//
// LAMELLA_COMMAND says how Lamella is started (its words have spaces between), and LAMELLA_TEST_ENGINE with which
// engine.
package conformance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
)

// How long the daemon may take to stop. It may be slow where the kernel is emulated.
const patience = 10 * time.Minute

func TestSnapshotter(t *testing.T) {
	testsuite.SnapshotterSuite(t, "lamella", serve)
}

// serve makes a store in root and starts a daemon for it. The function that it gives stops the daemon and checks the
// store.
func serve(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	store := filepath.Join(root, "store")
	socket := filepath.Join(root, "containerd.sock")
	logged := filepath.Join(root, "serve.log")
	setup := []string{"setup", "loop-lvm"}
	for _, option := range []string{"basesize=64M", "loopdatasize=1G", "loopmetadatasize=8M", "min_free_space=0%"} {
		setup = append(setup, "--storage-opt", "dm."+option)
	}
	if err := run(store, setup...); err != nil {
		return nil, nil, err
	}

	log, err := os.Create(logged)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	daemon := lamella(store, "serve", "--containerd="+socket)
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	ready, cancel := context.WithCancel(ctx)
	go func() {
		ended <- daemon.Wait()
		cancel()
	}()

	// The connection is tried again and again until somebody listens, or the daemon has ended.
	retries := backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.2, MaxDelay: 200 * time.Millisecond}
	connection, err := grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retries, MinConnectTimeout: time.Second}))
	if err != nil {
		return nil, nil, err
	}
	client := snapshotsapi.NewSnapshotsClient(connection)

	stop := func() error {
		connection.Close()
		_ = daemon.Process.Signal(syscall.SIGTERM)
		select {
		case err = <-ended:
		case <-time.After(patience):
			_ = daemon.Process.Kill()
			err = fmt.Errorf("it did not stop: %w", <-ended)
		}
		if err != nil {
			text, _ := os.ReadFile(logged)
			return fmt.Errorf("lamella serve: %w\n%s", err, text)
		}
		if err := run(store, "check"); err != nil {
			return err
		}
		if os.Getenv("LAMELLA_TEST_ENGINE") == "kernel" {
			return run(store, "deactivate")
		}
		return nil
	}
	_, err = client.Stat(ready, &snapshotsapi.StatSnapshotRequest{Key: "none"}, grpc.WaitForReady(true))
	if !errdefs.IsNotFound(errgrpc.ToNative(err)) {
		return nil, nil, fmt.Errorf("the first call: %v; the end: %w", err, stop())
	}
	return proxy.NewSnapshotter(client, "lamella"), stop, nil
}

// lamella is a command of Lamella's about the store.
func lamella(store string, arguments ...string) *exec.Cmd {
	words := strings.Fields(os.Getenv("LAMELLA_COMMAND"))
	if len(words) == 0 {
		words = []string{"lamella"}
	}
	words = append(words, "--root", store)
	words = append(words, arguments...)
	command := exec.Command(words[0], words[1:]...)
	if engine := os.Getenv("LAMELLA_TEST_ENGINE"); engine != "" {
		command.Env = append(os.Environ(), "LAMELLA_ENGINE="+engine)
	}
	return command
}

func run(store string, arguments ...string) error {
	if output, err := lamella(store, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("lamella %s: %w\n%s", strings.Join(arguments, " "), err, output)
	}
	return nil
}

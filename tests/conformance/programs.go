// SPDX-License-Identifier: Apache-2.0

//go:build programs

// What go.mod has to know besides, so that containerd's own programs can be built: see scripts/conformance.py.
package conformance

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)

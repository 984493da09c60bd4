package main

import (
	"testing"

	"github.com/go-partd/partd/internal/testutil/layering"
)

// TestPackages limits how many packages the program contains, and checks that it does not contain some large ones;
// docs/dev/tables-design.md lists the largest packages.
func TestPackages(t *testing.T) {
	layering.CheckWeight(t, ".", 760, "cloud.google.com/go/storage", "github.com/envoyproxy", "google.golang.org/api")
}

package main

import (
	"testing"

	"github.com/go-partd/partd/internal/testutil/layering"
)

// TestPackages checks which packages the program contains; docs/design.md lists the largest.
func TestPackages(t *testing.T) {
	layering.CheckWeight(t, ".", 750, "cloud.google.com/go/storage", "github.com/envoyproxy", "google.golang.org/api")
}

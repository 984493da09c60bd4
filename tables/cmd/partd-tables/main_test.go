package main

import (
	"testing"

	"github.com/go-partd/partd/internal/testutil/house"
)

// The program is built where it is installed: docs/design.md says what weighs in it.
func TestPackages(t *testing.T) {
	house.CheckWeight(t, ".", 750, "cloud.google.com/go/storage", "github.com/envoyproxy", "google.golang.org/api")
}

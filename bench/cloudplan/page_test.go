package main

import (
	"os"
	"testing"
)

// TestPageIsCurrent checks that docs/cloud-plan.md is the output of this program.
func TestPageIsCurrent(t *testing.T) {
	b, err := os.ReadFile("../../docs/cloud-plan.md")
	if err != nil || string(b) != page() {
		t.Errorf("docs/cloud-plan.md is outdated: run go run -C bench ./cloudplan > docs/cloud-plan.md, and docs/plots/draw (%v)", err)
	}
}

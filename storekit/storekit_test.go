package storekit_test

import (
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/partdtest"
)

// TestExampleKeepsPromises checks that the store of the example keeps the promises of package partd.
func TestExampleKeepsPromises(t *testing.T) {
	partdtest.Run(t, func(*testing.T) partd.Partd { return &mapStore{values: map[string][]byte{}} }, nil)
}

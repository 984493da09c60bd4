package storetest

import (
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/partdtest"
)

// CheckSlow runs partdtest on a slow store. Unless PARTD_REQUIRE_ALL is set, it runs only the state machine, and then
// skips the test, so that the omitted checks are visible.
func CheckSlow(t *testing.T, open func(t *testing.T) partd.Partd, opts *partdtest.Options) {
	t.Helper()
	if procs.RequiresAll() {
		partdtest.Run(t, open, opts)
		return
	}
	partdtest.StateMachine(t, open, opts)
	t.Skip("only the state machine ran, because PARTD_REQUIRE_ALL is not set")
}

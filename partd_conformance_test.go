package partd_test

import (
	"os"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/partdtest"
)

func TestMain(m *testing.M) { procs.Main(m) }

// dictAbilities lists the abilities that all stores in this file must have.
var dictAbilities = []partdtest.Ability{
	partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList,
	partdtest.CanScan, partdtest.CanStat, partdtest.CanClose,
}

// withoutSessions is for Buffer, which is not an Applier.
var withoutSessions = []partdtest.Ability{partdtest.CanApply}

func TestDictKeepsPromises(t *testing.T) {
	partdtest.Run(t, func(*testing.T) partd.Partd { return partd.NewDict() },
		&partdtest.Options{Require: append(dictAbilities, partdtest.CanApply)})
}

// TestBufferKeepsPromises runs the conformance suite with three budgets: one so small that nearly
// every append flushes, a medium one, and one that is never reached. For the last one, it runs only the
// state machine unless PARTD_ALL_LAYERS is set.
func TestBufferKeepsPromises(t *testing.T) {
	for name, memory := range map[string]int64{"1KiB": 1 << 10, "2MiB": 2 << 20, "1GiB": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			run := partdtest.Run
			if memory == 1<<30 && os.Getenv("PARTD_ALL_LAYERS") == "" {
				run = partdtest.StateMachine
			}
			run(t, func(t *testing.T) partd.Partd {
				return newBuffer(t, partd.NewDict(), partd.NewDict(), memory)
			}, &partdtest.Options{Require: append(dictAbilities, partdtest.CanOpen, partdtest.CanFlush), Without: withoutSessions})
		})
	}
}

func TestBufferOverBufferKeepsPromises(t *testing.T) {
	partdtest.Run(t, func(t *testing.T) partd.Partd {
		fast := newBuffer(t, partd.NewDict(), partd.NewDict(), 64<<10)
		return newBuffer(t, fast, partd.NewDict(), 1<<20)
	}, &partdtest.Options{Require: append(dictAbilities, partdtest.CanOpen, partdtest.CanFlush), Without: withoutSessions})
}

func newBuffer(t *testing.T, fast, slow partd.Partd, memory int64) partd.Partd {
	b := must.Get(partd.NewBuffer(fast, slow, &partd.BufferOptions{Memory: memory}))(t)
	return b
}

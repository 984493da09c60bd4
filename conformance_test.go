package partd_test

import (
	"io"
	"os"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/remote"
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
	b, err := partd.NewBuffer(fast, slow, &partd.BufferOptions{Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// storeAbilities lists the abilities of all stores in this file, so that a missing ability is a compile error.
type storeAbilities interface {
	partd.Partd
	partd.Setter
	partd.Deleter
	partd.Lister
	partd.Scanner
	partd.PartScanner
	partd.Statter
}

type (
	durableAbilities interface {
		partd.Opener
		partd.Syncer
		io.Closer
	}
	layerAbilities interface {
		durableAbilities
		partd.Popper
		partd.Flusher
		partd.Unwrapper
	}
	sessionAbilities interface {
		partd.Popper
		partd.Applier
		partd.SessionGuard
	}
)

var (
	_ interface {
		storeAbilities
		sessionAbilities
		partd.Haser
		partd.MemoryUser
	} = (*partd.Dict)(nil)
	_ interface {
		storeAbilities
		durableAbilities
		sessionAbilities
		partd.Haser
	} = (*partd.File)(nil)
	_ interface {
		storeAbilities
		layerAbilities
		partd.MemoryUser
		partd.Haser
	} = (*partd.Buffer)(nil)
	_ interface {
		storeAbilities
		layerAbilities
		partd.Applier
		partd.Haser
	} = (*compress.Store)(nil)
	_ interface {
		storeAbilities
		durableAbilities
		sessionAbilities
		partd.Flusher
		partd.MemoryUser
		partd.Batcher
		partd.Haser
	} = (*logstore.Store)(nil)
	_ interface {
		storeAbilities
		durableAbilities
		sessionAbilities
		partd.Flusher
		partd.Checker
		partd.Batcher
	} = (*remote.Client)(nil)
)

// TestAs checks that As finds an ability beneath a layer without methods for it, and prefers the layer's own ability.
func TestAs(t *testing.T) {
	dict := partd.NewDict()
	layer, err := compress.New(dict, compress.Zstd, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := partd.As[partd.MemoryUser](layer); !ok || m != partd.MemoryUser(dict) {
		t.Errorf("As returned %v, %v, want the MemoryUser beneath the layer", m, ok)
	}
	if a, ok := partd.As[partd.Applier](layer); !ok || a != partd.Applier(layer) {
		t.Errorf("As returned %v, %v, want the layer itself", a, ok)
	}
	if _, ok := partd.As[partd.Batcher](layer); ok {
		t.Error("As found a Batcher, want none")
	}
	if _, ok := partd.As[partd.Batcher](nil); ok {
		t.Error("As found a Batcher in a nil store")
	}
}

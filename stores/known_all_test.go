package stores_test

import (
	"io"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
)

// storeAbilities lists the abilities of all stores, so that a missing ability is a compile error.
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
	layer := must.Get(compress.New(dict, compress.Zstd, nil))(t)
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

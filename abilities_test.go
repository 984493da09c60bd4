package partd_test

import (
	"io"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
)

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
		partd.MemoryUser
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
	} = (*remote.Client)(nil)
)

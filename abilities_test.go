package partd_test

import (
	"io"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
)

// able lists the abilities that all stores in this file have. If a store loses one, this file no
// longer compiles.
type able interface {
	partd.Partd
	partd.Setter
	partd.Deleter
	partd.Lister
	partd.Scanner
	partd.PartScanner
	partd.Statter
}

type (
	lasting interface {
		partd.Opener
		partd.Syncer
		io.Closer
	}
	layered interface {
		lasting
		partd.Popper
		partd.Flusher
		partd.MemoryUser
		partd.Unwrapper
	}
	numbered interface {
		partd.Popper
		partd.Applier
		partd.SessionGuard
	}
)

var (
	_ interface {
		able
		numbered
		partd.Haser
		partd.MemoryUser
	} = (*partd.Dict)(nil)
	_ interface {
		able
		lasting
		numbered
		partd.Haser
	} = (*partd.File)(nil)
	_ interface {
		able
		layered
		partd.Haser
	} = (*partd.Buffer)(nil)
	_ interface {
		able
		layered
		partd.Applier
		partd.Haser
	} = (*compress.Store)(nil)
	_ interface {
		able
		lasting
		numbered
		partd.Flusher
		partd.MemoryUser
		partd.Batcher
		partd.Haser
	} = (*logstore.Store)(nil)
	_ interface {
		able
		lasting
		numbered
		partd.Flusher
		partd.Checker
	} = (*remote.Client)(nil)
)

package stores_test

import (
	"context"
	"io"

	"github.com/go-partd/partd"
)

// bare is a store with only the three required methods.
type bare struct{ partd.Partd }

// partialStores has functions that hide all abilities of a Dict except those in their keys.
var partialStores = map[string]func(d *partd.Dict) partd.Partd{
	"none": func(d *partd.Dict) partd.Partd { return bare{d} },
	"keys": func(d *partd.Dict) partd.Partd { return canList{bare{d}, d} },
	"open": func(d *partd.Dict) partd.Partd { return canOpen{bare{d}, dictOpener{d}} },
	"scan": func(d *partd.Dict) partd.Partd { return canScan{bare{d}, d} },
	"scan and parts": func(d *partd.Dict) partd.Partd {
		return struct {
			canScan
			partd.PartScanner
		}{canScan{bare{d}, d}, d}
	},
	"stat": func(d *partd.Dict) partd.Partd { return canStat{bare{d}, d} },
	"set": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			partd.Setter
		}{bare{d}, d}
	},
	"delete": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			partd.Deleter
		}{bare{d}, d}
	},
	"pop": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			partd.Popper
		}{bare{d}, d}
	},
	"apply": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			partd.Applier
		}{bare{d}, d}
	},
	"flush and sync": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			noopFlusher
		}{bare{d}, noopFlusher{}}
	},
	"close": func(d *partd.Dict) partd.Partd {
		return struct {
			bare
			io.Closer
		}{bare{d}, d}
	},
	"keys and open": func(d *partd.Dict) partd.Partd {
		return struct {
			canList
			partd.Opener
		}{canList{bare{d}, d}, dictOpener{d}}
	},
	"keys and scan": func(d *partd.Dict) partd.Partd {
		return struct {
			canList
			partd.Scanner
		}{canList{bare{d}, d}, d}
	},
	"keys and stat": func(d *partd.Dict) partd.Partd {
		return struct {
			canList
			partd.Statter
		}{canList{bare{d}, d}, d}
	},
	"scan and stat": func(d *partd.Dict) partd.Partd {
		return struct {
			canScan
			partd.Statter
		}{canScan{bare{d}, d}, d}
	},
	"all": func(d *partd.Dict) partd.Partd { return d },
}

type (
	canList struct {
		bare
		partd.Lister
	}
	canOpen struct {
		bare
		partd.Opener
	}
	canScan struct {
		bare
		partd.Scanner
	}
	canStat struct {
		bare
		partd.Statter
	}
)

// dictOpener adds Open to a Dict, which has no such method.
type dictOpener struct{ d *partd.Dict }

func (o dictOpener) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	return partd.Open(ctx, o.d, key)
}

type noopFlusher struct{}

func (noopFlusher) Flush(context.Context) error { return nil }
func (noopFlusher) Sync(context.Context) error  { return nil }

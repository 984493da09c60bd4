package partdtest

import (
	"io"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// layerAbility describes an interface that a layer may implement: one of package partd, or io.Closer.
type layerAbility struct {
	name    string
	ability Ability // if Options.Without lists it, a layer may lack the interface
	has     func(partd.Partd) bool
}

// mustHandle lists the interfaces that a layer must implement if the store beneath does. Their
// methods read or change keys or values, or must reach the store beneath.
var mustHandle = []layerAbility{
	{"Setter", CanSet, implements[partd.Setter]},
	{"Deleter", CanDelete, implements[partd.Deleter]},
	{"Popper", CanPop, implements[partd.Popper]},
	{"Lister", CanList, implements[partd.Lister]},
	{"Haser", CanHas, implements[partd.Haser]},
	{"Opener", CanOpen, implements[partd.Opener]},
	{"Scanner", CanScan, implements[partd.Scanner]},
	{"PartScanner", CanScan, implements[partd.PartScanner]},
	{"Statter", CanStat, implements[partd.Statter]},
	{"Flusher", CanFlush, implements[partd.Flusher]},
	{"Syncer", CanSync, implements[partd.Syncer]},
	{"Applier", CanApply, implements[partd.Applier]},
	{"SessionGuard", CanApply, implements[partd.SessionGuard]},
	{"Closer", CanClose, implements[io.Closer]},
}

// mayInherit lists the interfaces that partd.As finds in the store beneath, so that a layer need not
// implement them.
var mayInherit = []layerAbility{
	{"Batcher", "", implements[partd.Batcher]},
	{"Checker", "", implements[partd.Checker]},
	{"MemoryUser", "", implements[partd.MemoryUser]},
}

func implements[T any](store partd.Partd) bool {
	_, ok := store.(T)
	return ok
}

// checkLayers reports each interface in mustHandle that a layer of the store does not implement
// although the store beneath that layer does, unless Options.Without excludes the interface. Such a
// layer would fail, or fall back to a slower method.
func (s *suite) checkLayers(t tester, store partd.Partd) {
	var above partd.Partd
	for beneath := range storekit.Layers(store) {
		if beneath == nil {
			t.Fatalf("Unwrap of %T returned nil", above)
		}
		for _, a := range mustHandle {
			if above != nil && a.has(beneath) && !a.has(above) && !slices.Contains(s.opts.Without, a.ability) {
				t.Errorf("the layer %T loses an ability of the %T beneath it: embed storekit.Layer, or implement %s and use the store beneath in its methods", above, beneath, a.name)
			}
		}
		above = beneath
	}
}

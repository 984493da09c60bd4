package partdtest

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// everything has the methods of all abilities that a layer must handle.
type everything interface {
	partd.Partd
	partd.Setter
	partd.Deleter
	partd.Popper
	partd.Lister
	partd.Haser
	partd.Opener
	partd.Scanner
	partd.PartScanner
	partd.Statter
	partd.Flusher
	partd.Syncer
	partd.Applier
	partd.SessionGuard
	partd.Unwrapper
	io.Closer
}

// fullLayer has all abilities. Its SessionGuard is nil, so the methods of SessionGuard must not be called.
type fullLayer struct {
	*reference
	partd.SessionGuard
	beneath partd.Partd
}

func (l fullLayer) Unwrap() partd.Partd { return l.beneath }

func (l fullLayer) HasKey(ctx context.Context, key string) (bool, error) {
	return partd.Has(ctx, l.reference, key)
}

// TestLayerWithoutAbility checks that Options.Without excuses layers that lack the listed abilities, and no
// other layers.
func TestLayerWithoutAbility(t *testing.T) {
	full := func() everything { r := newReference(""); return fullLayer{r, nil, r} }
	lacking := func() partd.Partd {
		return struct {
			everything
			partd.Syncer
		}{full(), nil}
	}
	for _, c := range []struct {
		name    string
		layer   partd.Partd
		without []Ability
		want    string // part of the failure
	}{
		{"an excused layer", lacking(), []Ability{CanSync}, ""},
		{"a layer that lacks another ability", lacking(), []Ability{CanApply}, "implement Syncer "},
		{"a layer that lacks nothing", full(), []Ability{CanSync}, "the store can sync, but Options.Without lists it"},
		{"a layer over nothing", fullLayer{newReference(""), nil, nil}, nil, "Unwrap of partdtest.fullLayer returned nil"},
	} {
		open := func(*testing.T) partd.Partd { return c.layer }
		recorded := &failures{messages: map[string]string{}, ran: map[string]bool{}}
		(&recorder{t: t, failures: recorded}).runInGoroutine(newSuite(open, &Options{Without: c.without}).probe)
		if m := recorded.messages[""]; c.want == "" && m != "" || !strings.Contains(m, c.want) {
			t.Errorf("the check of %s failed with %q, want %q", c.name, m, c.want)
		}
	}
}

// TestAbilitiesOfLayersAreComplete checks that mustHandle and mayInherit list each interface of
// package partd that stores implement.
func TestAbilitiesOfLayersAreComplete(t *testing.T) {
	listed := []string{"Partd", "Unwrapper"} // every layer has these
	for _, a := range slices.Concat(mustHandle, mayInherit) {
		listed = append(listed, a.name)
	}
	files := must.Get(filepath.Glob("../*.go"))(t)
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed := must.Get(parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution))(t)
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			if _, ok := spec.Type.(*ast.InterfaceType); ok {
				found++
				if !slices.Contains(listed, spec.Name.Name) {
					t.Errorf("neither mustHandle nor mayInherit lists partd.%s", spec.Name)
				}
			}
			return true
		})
	}
	if found < 18 {
		t.Errorf("package partd has %d interfaces, want at least 18", found)
	}
}

// TestForgetfulLayers checks that the suite finds each ability that a layer has lost. Each layer of
// the test embeds one interface twice. Go then promotes none of the interface's methods.
func TestForgetfulLayers(t *testing.T) {
	r := newReference("")
	var full everything = fullLayer{r, nil, fullLayer{r, nil, r}}
	layers := map[string]partd.Partd{
		"": full,
		"Setter": struct {
			everything
			partd.Setter
		}{full, nil},
		"Deleter": struct {
			everything
			partd.Deleter
		}{full, nil},
		"Popper": struct {
			everything
			partd.Popper
		}{full, nil},
		"Lister": struct {
			everything
			partd.Lister
		}{full, nil},
		"Haser": struct {
			everything
			partd.Haser
		}{full, nil},
		"Opener": struct {
			everything
			partd.Opener
		}{full, nil},
		"Scanner": struct {
			everything
			partd.Scanner
		}{full, nil},
		"PartScanner": struct {
			everything
			partd.PartScanner
		}{full, nil},
		"Statter": struct {
			everything
			partd.Statter
		}{full, nil},
		"Flusher": struct {
			everything
			partd.Flusher
		}{full, nil},
		"Syncer": struct {
			everything
			partd.Syncer
		}{full, nil},
		"Applier": struct {
			everything
			partd.Applier
		}{full, nil},
		"SessionGuard": struct {
			everything
			partd.SessionGuard
		}{full, nil},
		"Closer": struct {
			everything
			io.Closer
		}{full, nil},
	}
	for _, a := range mustHandle {
		if layers[a.name] == nil {
			t.Errorf("there is no layer without %s", a.name)
		}
	}
	for name, layer := range layers {
		recorded := &failures{messages: map[string]string{}, ran: map[string]bool{}}
		check := &recorder{t: t, failures: recorded}
		check.runInGoroutine(func(t tester) { newSuite(nil, nil).checkLayers(t, layer) })
		if m := recorded.messages[""]; name == "" && m != "" || name != "" && !strings.Contains(m, "implement "+name+" ") {
			t.Errorf("the check of a layer without %q failed with %q", name, m)
		}
	}
}

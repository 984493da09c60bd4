package main

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd/bench/mutants/planting"
)

// proof plants mutants in blocks that candidates cover and looks for mutants that only candidates find.
type proof struct {
	root       string
	temp       string
	tests      []*test
	candidates map[*test]bool
	planted    *planting.Planted
	blocks     map[*planting.Mutant]string
	covering   map[string][]*test // by block
	binaries   map[string]string  // by directory
	mutants    map[*test]int      // number of mutants in the test's blocks that tests outside candidates find
}

func newProof(root, temp string, tests []*test) *proof {
	p := &proof{root: root, temp: temp, tests: tests, candidates: map[*test]bool{}, covering: map[string][]*test{}}
	for _, t := range tests {
		for _, b := range t.covers {
			p.covering[b] = append(p.covering[b], t)
		}
	}
	return p
}

const modulePath = "github.com/go-partd/partd/"

// plant plants up to the given number of mutants per candidate, in those of its blocks that the fewest tests cover.
func (p *proof) plant(each int) error {
	places, err := p.mutantsByBlock()
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(*seed, 0))
	var chosen []*planting.Mutant
	p.blocks = map[*planting.Mutant]string{}
	for _, c := range p.tests { // not over the map, so that the seed determines the choice
		if !p.candidates[c] {
			continue
		}
		blocks := slices.DeleteFunc(slices.Clone(c.covers), func(b string) bool { return len(places[b]) == 0 })
		r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		slices.SortStableFunc(blocks, func(a, b string) int { return min(len(p.covering[a]), 50) - min(len(p.covering[b]), 50) })
		for _, b := range blocks[:min(each, len(blocks))] {
			m := places[b][r.IntN(len(places[b]))]
			if p.blocks[m] == "" {
				p.blocks[m] = b
				chosen = append(chosen, m)
			}
		}
	}
	p.planted, err = planting.Plant(p.temp, chosen, len(chosen))
	if err != nil {
		return err
	}
	return p.build()
}

// mutantsByBlock returns all mutants of the packages that the candidates cover, by the smallest block that contains
// them.
func (p *proof) mutantsByBlock() (map[string][]*planting.Mutant, error) {
	dirs := map[string]bool{}
	for c := range p.candidates {
		for _, b := range c.covers {
			if inProduct(b) {
				dirs[dirOf(b)] = true
			}
		}
	}
	places := map[string][]*planting.Mutant{}
	for dir := range dirs {
		pkg, err := planting.Load(filepath.Join(p.root, dir))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		mutants := pkg.Mutants()
		blocks := p.blocksOf(dir, mutants)
		for _, m := range mutants {
			places[blocks[m]] = append(places[blocks[m]], m)
		}
	}
	return places, nil
}

// dirOf returns the directory of the package with a block.
func dirOf(block string) string {
	name, _, _ := strings.Cut(block, ":")
	return path.Dir(strings.TrimPrefix(name, modulePath))
}

// blocksOf returns, for each mutant of the package in dir, the smallest block that contains it and that tests cover.
func (p *proof) blocksOf(dir string, mutants []*planting.Mutant) map[*planting.Mutant]string {
	type block struct {
		name     string
		from, to int // lines
	}
	byFile := map[string][]block{}
	for b := range p.covering {
		if dirOf(b) != dir {
			continue
		}
		name, span, _ := strings.Cut(b, ":")
		n, column := block{name: b}, 0
		if _, err := fmt.Sscanf(span, "%d.%d,%d.", &n.from, &column, &n.to); err == nil {
			file := filepath.Join(p.root, strings.TrimPrefix(name, modulePath))
			byFile[file] = append(byFile[file], n)
		}
	}
	smallest := map[*planting.Mutant]string{}
	for _, m := range mutants {
		file, line, _ := m.Place()
		var best block
		for _, b := range byFile[file] {
			isInside := b.from <= line && line <= b.to
			if isInside && (best.name == "" || cmp.Or(cmp.Compare(b.to-b.from, best.to-best.from), strings.Compare(b.name, best.name)) < 0) {
				best = b
			}
		}
		smallest[m] = best.name
	}
	return smallest
}

func (p *proof) build() error {
	modules, needed := map[string]bool{}, map[string]bool{}
	for _, m := range p.planted.Mutants {
		for _, t := range p.covering[p.blocks[m]] {
			needed[t.dir] = true
			modules[moduleOf(filepath.Join(p.root, t.dir))] = true
		}
	}
	for module := range modules { // removes mutants that do not compile
		if err := p.planted.Go(module, "build", "./..."); err != nil {
			return err
		}
	}
	p.binaries = map[string]string{}
	for dir := range needed {
		binary := filepath.Join(p.temp, strings.ReplaceAll(dir, "/", "_")+".test")
		if err := p.planted.Go(filepath.Join(p.root, dir), "test", "-c", "-vet=off", "-o", binary, "."); err != nil {
			return err
		}
		p.binaries[dir] = binary
	}
	return nil
}

// run removes from the candidates each test that is the only one to find a mutant.
func (p *proof) run() error {
	p.mutants = map[*test]int{}
	for i, m := range p.planted.Mutants {
		if err := p.planted.Apply(m.Number); err != nil {
			return err
		}
		file, line, _ := m.Place()
		name, _ := filepath.Rel(p.root, file)
		fmt.Fprintf(os.Stderr, "%d of %d: %s:%d: %s: %s\n", i+1, len(p.planted.Mutants), name, line, m, p.judge(m))
	}
	return p.planted.Apply(0)
}

// judge describes which tests find a mutant. It tries candidates last and drops a candidate that finds it.
func (p *proof) judge(m *planting.Mutant) string {
	covering := p.covering[p.blocks[m]]
	if p.finds(slices.DeleteFunc(slices.Clone(covering), func(t *test) bool { return p.candidates[t] })) {
		for _, t := range covering {
			p.mutants[t]++
		}
		return "found"
	}
	for _, t := range slices.SortedFunc(slices.Values(covering), func(a, b *test) int { return a.lines - b.lines }) {
		if p.candidates[t] && p.finds([]*test{t}) {
			delete(p.candidates, t)
			return "found only by " + t.dir + " " + t.name + ", which stays"
		}
	}
	return "survives"
}

// finds reports whether a test fails. It runs the quickest tests first and omits tests that would exceed the time for a
// mutant.
func (p *proof) finds(tests []*test) bool {
	seconds, names := map[string]float64{}, map[string][]string{}
	total := 0.0
	for i, t := range slices.SortedFunc(slices.Values(tests), func(a, b *test) int { return cmp.Compare(a.seconds, b.seconds) }) {
		total += t.seconds
		if i > 0 && total > maxPerMutant.Seconds() {
			break
		}
		seconds[t.dir] += t.seconds
		names[t.dir] = append(names[t.dir], t.name)
	}
	dirs := slices.SortedFunc(maps.Keys(names), func(a, b string) int { return cmp.Compare(seconds[a], seconds[b]) })
	for _, dir := range dirs {
		limit := time.Duration(3*seconds[dir]*float64(time.Second)) + 10*time.Second
		if _, err := p.planted.RunTests(p.binaries[dir], filepath.Join(p.root, dir), limit, "-test.failfast", "-test.run", "^("+strings.Join(names[dir], "|")+")$"); err != nil {
			return true
		}
	}
	return false
}

package main

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd/bench/mutants/planting"
)

// proof plants mutants in blocks that candidates cover, and looks for mutants that only candidates find.
type proof struct {
	root       string
	temp       string
	tests      []*test
	candidates map[*test]bool
	planted    *planting.Planted
	blocks     map[*planting.Mutant]string
	covering   map[string][]*test // by block
	binaries   map[string]string  // by directory
	mutants    map[*test]int      // how many mutants are in its blocks, and found by tests that stay
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

// plant chooses mutants: for each candidate, some in the blocks that the fewest other tests cover.
func (p *proof) plant(each int) error {
	places, err := p.mutantsByBlock()
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(*seed, 0))
	var chosen []*planting.Mutant
	p.blocks = map[*planting.Mutant]string{}
	for c := range p.candidates {
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

// mutantsByBlock returns all mutants of the packages that the candidates cover.
func (p *proof) mutantsByBlock() (map[string][]*planting.Mutant, error) {
	byFile := map[string]map[string]lines{} // for each file, its blocks
	for c := range p.candidates {
		for _, b := range c.covers {
			if !inProduct(b) {
				continue
			}
			path, s, err := p.place(b)
			if err != nil {
				return nil, err
			}
			if byFile[path] == nil {
				byFile[path] = map[string]lines{}
			}
			byFile[path][b] = s
		}
	}
	dirs := map[string]bool{}
	for path := range byFile {
		dirs[filepath.Dir(path)] = true
	}
	places := map[string][]*planting.Mutant{}
	for dir := range dirs {
		pkg, err := planting.Load(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		for _, m := range pkg.Mutants() {
			file, first, _ := m.Place()
			for b, s := range byFile[file] {
				if s.from <= first && first <= s.to {
					places[b] = append(places[b], m)
				}
			}
		}
	}
	return places, nil
}

type lines struct{ from, to int }

// place returns the file and the lines of a block.
func (p *proof) place(block string) (path string, l lines, err error) {
	name, span, _ := strings.Cut(block, ":")
	var column int
	_, err = fmt.Sscanf(span, "%d.%d,%d.", &l.from, &column, &l.to)
	return filepath.Join(p.root, strings.TrimPrefix(name, modulePath)), l, err
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

// run removes the candidates that are the only tests to find a mutant.
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

// judge says which tests find a mutant. It tries the tests that stay before the candidates.
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

// finds runs tests, the quickest first, and reports whether one fails. It omits tests that would exceed the time for a mutant.
func (p *proof) finds(tests []*test) bool {
	seconds, names := map[string]float64{}, map[string][]string{}
	total := 0.0
	for i, t := range slices.SortedFunc(slices.Values(tests), func(a, b *test) int { return cmp.Compare(a.seconds, b.seconds) }) {
		total += t.seconds
		if i > 0 && total > most.Seconds() {
			break
		}
		seconds[t.dir] += t.seconds
		names[t.dir] = append(names[t.dir], t.name)
	}
	dirs := slices.SortedFunc(maps.Keys(names), func(a, b string) int { return cmp.Compare(seconds[a], seconds[b]) })
	for _, dir := range dirs {
		limit := time.Duration(3*seconds[dir]*float64(time.Second)) + 10*time.Second
		if _, err := runTest(p.binaries[dir], filepath.Join(p.root, dir), "("+strings.Join(names[dir], "|")+")", limit, "-test.failfast"); err != nil {
			return true
		}
	}
	return false
}

package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-partd/partd/bench/mutants/planting"
)

// survivors plants random mutants in packages and prints those that no test finds. It runs only the tests of the package
// and of the three other packages whose tests cover most of it, because building all tests takes long.
func survivors(all *proof, dirs []string) error {
	total, found := 0, 0
	for _, dir := range dirs {
		p := newProof(all.root, all.temp, all.testsOf(dir))
		pkg, err := planting.Load(filepath.Join(p.root, dir))
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		points := pkg.Mutants()
		rand.New(rand.NewPCG(*seed, 0)).Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
		if p.planted, err = planting.Plant(p.temp, points, *each); err != nil {
			return err
		}
		p.blocks = p.blocksOf(dir, p.planted.Mutants)
		if err := p.build(); err != nil {
			return err
		}
		foundInPackage := 0
		for _, m := range p.planted.Mutants {
			if err := p.planted.Apply(m.Number); err != nil {
				return err
			}
			if p.finds(p.covering[p.blocks[m]]) {
				foundInPackage++
				continue
			}
			file, line, _ := m.Place()
			name, _ := filepath.Rel(p.root, file)
			fmt.Printf("%s:%d: survives %d tests: %s\n", name, line, len(p.covering[p.blocks[m]]), m)
		}
		fmt.Printf("%-44s %d of %d mutants found\n", dir, foundInPackage, len(p.planted.Mutants))
		total, found = total+len(p.planted.Mutants), found+foundInPackage
		for _, binary := range p.binaries {
			os.Remove(binary)
		}
	}
	fmt.Printf("%d of %d mutants found (%.1f %%)\n", found, total, 100*float64(found)/float64(max(total, 1)))
	return nil
}

// testsOf returns the tests in dir and in the three other directories whose tests cover the most blocks of the package
// in dir.
func (p *proof) testsOf(dir string) (tests []*test) {
	covered := map[string]int{}
	for _, t := range p.tests {
		for _, b := range t.covers {
			if dirOf(b) == dir {
				covered[t.dir]++
			}
		}
	}
	covered[dir] = math.MaxInt
	byCoverage := slices.SortedFunc(maps.Keys(covered), func(a, b string) int {
		return cmp.Or(cmp.Compare(covered[b], covered[a]), strings.Compare(a, b))
	})
	for _, t := range p.tests {
		if slices.Contains(byCoverage[:min(4, len(byCoverage))], t.dir) {
			tests = append(tests, t)
		}
	}
	return tests
}

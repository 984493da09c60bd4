package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// test is a test that was measured.
type test struct {
	dir, name string
	lines     int
	seconds   float64
	covers    []string
	keep      string // why it must stay; "" for a candidate
}

// readTests returns all measured tests and marks those that must stay.
func readTests(root, state string) (tests []*test, err error) {
	named, err := namedTests(root)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(state, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var m measurement
		if err := json.Unmarshal(content, &m); err != nil {
			return nil, err
		}
		sources, err := readSources(filepath.Join(root, m.Dir))
		if err != nil {
			return nil, err
		}
		for _, r := range m.Tests {
			t := &test{dir: m.Dir, name: r.Name, seconds: r.Seconds}
			for _, i := range r.Covers {
				t.covers = append(t.covers, m.Blocks[i])
			}
			s := sources[r.Name]
			switch {
			case s == nil:
				continue // it was deleted after the measurement
			case named[r.Name]:
				t.keep = "a document, a list of mutants or .ci names it"
			case !r.Passed:
				t.keep = "it was skipped or failed"
			case startsProcess(sources, r.Name, map[string]bool{}):
				t.keep = "it starts processes, whose coverage is unknown"
			}
			t.lines = s.lines
			tests = append(tests, t)
		}
	}
	return tests, nil
}

var testName = regexp.MustCompile(`\bTest\w+`)

// namedTests returns the names of tests in the project's documents, lists of mutants, and .ci.
func namedTests(root string) (map[string]bool, error) {
	named := map[string]bool{}
	var files []string
	for _, pattern := range []string{"docs/*.md", "docs/dev/*.md", "tables/docs/*.md", "bench/mutants/*.txt", ".ci/*", "*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, name := range testName.FindAllString(string(content), -1) {
			named[name] = true
		}
	}
	return named, nil
}

// function is a function in a package's test files.
type function struct {
	lines           int
	uses            []string // names that it mentions
	startsProcesses bool
}

func readSources(dir string) (map[string]*function, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	sources := map[string]*function{}
	for _, path := range paths {
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			s := &function{lines: files.Position(fn.End()).Line - files.Position(fn.Pos()).Line + 1}
			ast.Inspect(fn, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && (x.Name == "exec" || x.Name == "procs" || x.Name == "syscall") {
						s.startsProcesses = true
					}
				case *ast.Ident:
					s.uses = append(s.uses, n.Name)
				}
				return true
			})
			sources[fn.Name.Name] = s
		}
	}
	return sources, nil
}

// startsProcess reports whether a function uses a package for processes, directly or in the functions that it
// mentions.
func startsProcess(sources map[string]*function, name string, seen map[string]bool) bool {
	s := sources[name]
	if s == nil || seen[name] {
		return false
	}
	seen[name] = true
	return s.startsProcesses || slices.ContainsFunc(s.uses, func(used string) bool { return startsProcess(sources, used, seen) })
}

// candidates returns tests that can be removed together: other tests still cover each block of the product code.
// It tries long tests first, because their removal saves most.
func candidates(tests []*test) (removable []*test) {
	times := map[string]int{}
	for _, t := range tests {
		for _, b := range t.covers {
			times[b]++
		}
	}
	sorted := slices.SortedStableFunc(slices.Values(tests), func(a, b *test) int { return b.lines - a.lines })
	for _, t := range sorted {
		if t.keep != "" || slices.ContainsFunc(t.covers, func(b string) bool { return times[b] == 1 && inProduct(b) }) {
			continue
		}
		for _, b := range t.covers {
			times[b]--
		}
		removable = append(removable, t)
	}
	return removable
}

func inProduct(block string) bool { return !strings.Contains(block, "/testutil/") }

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// pkg is a package whose source is mutated.
type pkg struct {
	dir, name string
	files     *token.FileSet
	syntax    []*ast.File
	content   map[string][]byte // by path
	info      *types.Info
	sizes     types.Sizes
}

// load reads and checks the package in dir. It omits files that use cgo.
func load(dir string) (*pkg, error) {
	cmd := exec.Command("go", "list", "-e", "-deps", "-export", "-json=Dir,ImportPath,Name,GoFiles,Export,DepOnly", ".")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	type listed struct {
		Dir, ImportPath, Name, Export string
		GoFiles                       []string
		DepOnly                       bool
	}
	exports := map[string]string{}
	var target listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[l.ImportPath] = l.Export
		if !l.DepOnly {
			target = l
		}
	}
	p := &pkg{
		dir: dir, name: target.Name, files: token.NewFileSet(), content: map[string][]byte{}, sizes: types.SizesFor("gc", runtime.GOARCH),
		info: &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}},
	}
	for _, name := range target.GoFiles {
		path := filepath.Join(target.Dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(p.files, path, content, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.content[path] = content
		p.syntax = append(p.syntax, f)
	}
	open := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	// Errors are expected where a file that uses cgo is missing. Mutants that do not compile are dropped later.
	config := types.Config{Importer: importer.ForCompiler(p.files, "gc", open), Sizes: p.sizes, Error: func(error) {}}
	_, _ = config.Check(target.ImportPath, p.files, p.syntax, p.info)
	return p, nil
}

// text returns the source between two positions.
func (p *pkg) text(start, end token.Pos) string {
	from, to := p.files.Position(start), p.files.Position(end)
	return string(p.content[from.Filename][from.Offset:to.Offset])
}

var errorLine = regexp.MustCompile(`(?m)^(?:.*/)?([^/:\n]+\.go):(\d+)(?::\d+)?: `)

// compile builds the test binary of a suite with mutants, and returns those mutants that compile.
func (p *pkg) compile(s *suite, chosen []*mutant, temp string) ([]*mutant, error) {
	for {
		overlay, err := p.write(chosen, temp)
		if err != nil {
			return nil, err
		}
		cmd := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", s.binary, ".")
		cmd.Dir = s.dir
		out, err := cmd.CombinedOutput()
		if err == nil {
			_, err := os.Stat(s.binary)
			s.exists = err == nil // a package can have no tests
			return chosen, nil
		}
		kept := slices.DeleteFunc(slices.Clone(chosen), func(m *mutant) bool {
			first, last := p.files.Position(m.start), p.files.Position(m.end)
			return slices.ContainsFunc(errorLine.FindAllStringSubmatch(string(out), -1), func(e []string) bool {
				line, _ := strconv.Atoi(e[2])
				return e[1] == filepath.Base(first.Filename) && first.Line <= line && line <= last.Line
			})
		})
		if len(kept) == len(chosen) {
			return nil, fmt.Errorf("%w\n%s", err, out)
		}
		chosen = kept
	}
}

const helperSource = `package %s

import (
	partdOS "os"
	partdStrconv "strconv"
)

var partdMutant = func() int {
	content, _ := partdOS.ReadFile(%q)
	number, _ := partdStrconv.Atoi(string(content))
	return number
}()

func partdPick[T any](number int, value, mutated T) T {
	if partdMutant == number {
		return mutated
	}
	return value
}
`

// write writes the package's files with mutants to temp, and returns the path of the list for go's flag -overlay.
func (p *pkg) write(chosen []*mutant, temp string) (overlay string, err error) {
	helper := filepath.Join(temp, "helper.go")
	replace := map[string]string{filepath.Join(p.dir, "partd_mutant.go"): helper}
	err = os.WriteFile(helper, fmt.Appendf(nil, helperSource, p.name, filepath.Join(temp, "number")), 0o666)
	sorted := slices.SortedFunc(slices.Values(chosen), func(a, b *mutant) int { return int(b.start - a.start) })
	for path, content := range p.content {
		content = slices.Clone(content)
		for _, m := range sorted { // from the end, so that earlier offsets stay right
			if from, to := p.files.Position(m.start), p.files.Position(m.end); from.Filename == path {
				content = slices.Replace(content, from.Offset, to.Offset, []byte(strings.ReplaceAll(m.newText, numberMark, strconv.Itoa(m.number)))...)
			}
		}
		mutated := filepath.Join(temp, filepath.Base(path))
		replace[path] = mutated
		err = errors.Join(err, os.WriteFile(mutated, content, 0o666))
	}
	overlay = filepath.Join(temp, "overlay.json")
	list, _ := json.Marshal(map[string]any{"Replace": replace}) // strings cannot fail
	return overlay, errors.Join(err, os.WriteFile(overlay, list, 0o666))
}

// Package planting plants mistakes in Go packages: changed operators, limits that are off by one, negated conditions,
// swapped arguments and removed statements. All mutants are compiled at once; a file selects the one that programs apply.
package planting

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Package is a package whose source is mutated.
type Package struct {
	dir, name string
	files     *token.FileSet
	syntax    []*ast.File
	content   map[string][]byte // by path
	info      *types.Info
	sizes     types.Sizes
}

// Load reads and checks the package in dir. It omits files that use cgo.
func Load(dir string) (*Package, error) {
	cmd := exec.Command("go", "list", "-e", "-deps", "-export", "-json=Dir,ImportPath,Name,GoFiles,Export,DepOnly", ".")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	type packageInfo struct {
		Dir, ImportPath, Name, Export string
		GoFiles                       []string
		DepOnly                       bool
	}
	exports := map[string]string{}
	var target packageInfo
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var l packageInfo
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
	p := &Package{
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
func (p *Package) text(start, end token.Pos) string {
	from, to := p.files.Position(start), p.files.Position(end)
	return string(p.content[from.Filename][from.Offset:to.Offset])
}

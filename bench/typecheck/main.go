// Command typecheck checks the types of a module's packages for another platform, without cgo. With --tests, it also
// checks the tests. It only parses and checks the imported packages, so it is much faster than go build and go vet,
// which compile them.
//
//	go run -C bench ./typecheck [--tests] GOOS DIRECTORY...
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	tests := flag.Bool("tests", false, "also check the tests")
	flag.Parse()
	if flag.NArg() < 2 {
		fmt.Fprintln(os.Stderr, "usage: typecheck [--tests] GOOS DIRECTORY...")
		os.Exit(2)
	}
	goos, failed := flag.Arg(0), false
	for _, dir := range flag.Args()[1:] {
		if err := check(dir, goos, *tests); err != nil {
			fmt.Fprintf(os.Stderr, "typecheck %s: for %s: %v\n", dir, goos, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// listedPackage holds the output of go list for a package.
type listedPackage struct {
	ImportPath, Dir string
	GoFiles         []string
	ImportMap       map[string]string // from an import path in the source to the path of a test variant or vendored package
	Module          *struct {
		Main      bool
		GoVersion string
	}
	Error *struct{ Err string }
}

// check checks all packages of the module in dir for a platform.
func check(dir, goos string, tests bool) error {
	cmd := exec.Command("go", "list", "-e", "-deps", fmt.Sprintf("-test=%v", tests), "-json=ImportPath,Dir,GoFiles,ImportMap,Module,Error", "./...")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c := checker{files: token.NewFileSet(), checked: map[string]*types.Package{"unsafe": types.Unsafe}}
	for list := json.NewDecoder(out); ; { // go list prints a package after the packages that it imports
		var p listedPackage
		err := list.Decode(&p)
		if err == io.EOF {
			break
		}
		if err != nil {
			return errors.Join(err, cmd.Wait())
		}
		if p.ImportPath != "unsafe" && !strings.HasSuffix(p.ImportPath, ".test") { // go test generates those packages
			c.check(&p)
		}
	}
	if c.count == 0 {
		c.errs = append(c.errs, errors.New("go list found no packages of the module"))
	}
	return errors.Join(append(c.errs, cmd.Wait())...)
}

type checker struct {
	files   *token.FileSet
	checked map[string]*types.Package // by import path
	count   int                       // number of packages of the main module
	errs    []error
}

func (c *checker) check(p *listedPackage) {
	inModule := p.Module != nil && p.Module.Main
	if p.Error != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %s", p.ImportPath, p.Error.Err))
	}
	var syntax []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(c.files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			c.errs = append(c.errs, err)
			return
		}
		syntax = append(syntax, f)
	}
	config := types.Config{
		Sizes: types.SizesFor("gc", "amd64"), IgnoreFuncBodies: !inModule,
		Importer: importer(func(path string) (*types.Package, error) {
			if mapped, ok := p.ImportMap[path]; ok {
				path = mapped
			}
			if c.checked[path] == nil {
				return nil, fmt.Errorf("package %s has errors, or go list omits it", path)
			}
			return c.checked[path], nil
		}),
		Error: func(err error) { c.errs = append(c.errs, err) },
	}
	if p.Module != nil && p.Module.GoVersion != "" {
		config.GoVersion = "go" + p.Module.GoVersion
	}
	path, _, _ := strings.Cut(p.ImportPath, " ") // the import path of a variant for tests is "path [path.test]"
	c.checked[p.ImportPath], _ = config.Check(path, c.files, syntax, nil)
	if inModule {
		c.count++
	}
}

type importer func(path string) (*types.Package, error)

func (f importer) Import(path string) (*types.Package, error) { return f(path) }

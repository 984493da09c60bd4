package stage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"hash"
	"io"
	"io/fs"
	"path"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// digest hashes words with their lengths, so that different lists never hash the same bytes.
type digest struct{ hash.Hash }

func newDigest(words ...string) digest {
	d := digest{sha256.New()}
	d.add(words...)
	return d
}

func (d digest) add(words ...string) {
	for _, w := range words {
		fmt.Fprintf(d, "%d:%s", len(w), w)
	}
}

func (d digest) sum() string { return hex.EncodeToString(d.Sum(nil)) }

// hash adds the names and the code of the files to d.
func (c Code) hash(d digest) error {
	var names []string
	for _, p := range c.Patterns {
		matches, err := fs.Glob(c.Files, p)
		if err == nil && len(matches) == 0 {
			err = fs.ErrNotExist
		}
		if err != nil {
			return fmt.Errorf("source %s: %w", p, err)
		}
		names = append(names, matches...)
	}
	if len(c.Patterns) == 0 {
		err := fs.WalkDir(c.Files, ".", func(name string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && !strings.HasSuffix(name, "_test.go") {
				names = append(names, name)
			}
			return err
		})
		if err != nil || len(names) == 0 {
			return errors.Join(errors.New("source: Spec.Code contains no files"), err)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		text, err := fs.ReadFile(c.Files, name)
		d.add(name)
		if err == nil && path.Ext(name) == ".go" {
			err = hashGo(d, name, text)
		} else {
			d.add(string(text))
		}
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
	}
	return nil
}

// hashGo adds a Go file's syntax tree and directives to d. If the file uses cgo, it adds all comments.
func hashGo(d digest, name string, text []byte) error {
	f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	cgo := slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"C"` })
	for _, group := range f.Comments {
		for _, c := range group.List {
			if cgo || strings.HasPrefix(c.Text, "//go:") {
				// The number identifies the node that the directive applies to.
				d.add(c.Text, strconv.Itoa(nodesBefore(f, c.Pos())))
			}
		}
	}
	f.Comments = nil
	hashTree(d, reflect.ValueOf(f))
	return nil
}

// nodesBefore returns the number of nodes, other than comments, that begin before a position.
func nodesBefore(f *ast.File, pos token.Pos) (n int) {
	ast.Inspect(f, func(node ast.Node) bool {
		switch node.(type) {
		case *ast.CommentGroup, *ast.Comment, nil:
			return false
		}
		if node.Pos() < pos {
			n++
		}
		return true
	})
	return n
}

// hashTree hashes a syntax tree. For a position, it hashes only whether the position is set, which distinguishes
// f(a...) from f(a), and an alias from a type definition.
func hashTree(w io.Writer, v reflect.Value) {
	t := v.Type()
	switch {
	case t == reflect.TypeFor[*ast.CommentGroup]() || v.Kind() == reflect.Map: // the only maps are scopes, which are nil
	case t == reflect.TypeFor[token.Pos]():
		fmt.Fprintf(w, "%t,", v.Int() != int64(token.NoPos))
	case (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && !v.IsNil():
		hashTree(w, v.Elem())
	case v.Kind() == reflect.Struct:
		fmt.Fprint(w, t.Name(), "{")
		for _, field := range v.Fields() {
			hashTree(w, field)
		}
		fmt.Fprint(w, "}")
	case v.Kind() == reflect.Slice:
		fmt.Fprint(w, v.Len(), ":")
		for i := range v.Len() {
			hashTree(w, v.Index(i))
		}
	default:
		fmt.Fprintf(w, "%q,", fmt.Sprint(v))
	}
}

var readBuildInfo = debug.ReadBuildInfo // tests replace it

// ownModule is in every complete module list, because this package belongs to it.
const ownModule = "github.com/go-partd/partd"

// hashModules hashes the versions of Go and of the program's other modules, and the build settings. versions contains
// the versions that are missing from the program's module list.
func hashModules(versions map[string]string) (string, error) {
	info, ok := readBuildInfo()
	if !ok {
		return "", errors.New("the program was built without a module list: set Spec.Version instead of Spec.Code")
	}
	d := newDigest(info.GoVersion, versions[ownModule])
	for _, s := range info.Settings { // settings that select files or affect compilation
		if slices.Contains([]string{"-tags", "GOOS", "GOARCH", "CGO_ENABLED", "GOEXPERIMENT"}, s.Key) {
			d.add(s.Key, s.Value)
		}
	}
	isListed := versions[ownModule] != ""
	for _, m := range info.Deps {
		isListed = isListed || m.Path == ownModule
		module := m
		if m.Replace != nil {
			module = m.Replace
		}
		v, ok := versions[m.Path]
		if !ok && (module.Version == "" || module.Version == "(devel)") {
			return "", fmt.Errorf("module %s has no version because a directory replaces it: set Spec.Modules[%q]", m.Path, m.Path)
		}
		d.add(m.Path, v, module.Path, module.Version, module.Sum)
	}
	if !isListed {
		return "", fmt.Errorf("the program's module list is incomplete, as in every test: set Spec.Version instead of Spec.Code, or Spec.Modules[%q]", ownModule)
	}
	return d.sum(), nil
}

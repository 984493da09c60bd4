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

// digest hashes words, each with its length.
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

// hash hashes the files' names and code.
func (c Code) hash(d digest) error {
	var names []string
	for _, p := range c.Patterns {
		found, err := fs.Glob(c.Files, p)
		if err == nil && len(found) == 0 {
			err = fs.ErrNotExist
		}
		if err != nil {
			return fmt.Errorf("source %s: %w", p, err)
		}
		names = append(names, found...)
	}
	if len(c.Patterns) == 0 {
		err := fs.WalkDir(c.Files, ".", func(name string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && !strings.HasSuffix(name, "_test.go") {
				names = append(names, name)
			}
			return err
		})
		if err != nil || len(names) == 0 {
			return errors.Join(errors.New("source: there are no files"), err)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		text, err := fs.ReadFile(c.Files, name)
		if d.add(name); err == nil && path.Ext(name) == ".go" {
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

// hashGo hashes a file's syntax tree, and of its comments those that mean something.
func hashGo(d digest, name string, text []byte) error {
	f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	cgo := slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"C"` })
	for _, group := range f.Comments {
		for _, c := range group.List {
			if cgo || strings.HasPrefix(c.Text, "//go:") {
				d.add(c.Text, strconv.Itoa(before(f, c.Pos()))) // what it is about
			}
		}
	}
	f.Comments = nil
	hashTree(d, reflect.ValueOf(f))
	return nil
}

// before counts the nodes of a tree, without comments, that begin before a place.
func before(f *ast.File, at token.Pos) (n int) {
	ast.Inspect(f, func(node ast.Node) bool {
		switch node.(type) {
		case *ast.CommentGroup, *ast.Comment, nil:
			return false
		}
		if node.Pos() < at {
			n++
		}
		return true
	})
	return n
}

// hashTree hashes a tree. Of positions it hashes whether there is one, which tells
// f(a...) from f(a), and an alias from a type.
func hashTree(w io.Writer, v reflect.Value) {
	switch t := v.Type(); {
	case t == reflect.TypeFor[*ast.CommentGroup]() || v.Kind() == reflect.Map: // maps are of scopes, and nil
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

var readBuildInfo = debug.ReadBuildInfo // a test has others

// ownModule is imported here, so that every program that lists its modules has it.
const ownModule = "github.com/go-partd/partd"

// hashModules hashes the versions of Go and of the other modules of the program, and how it
// was built.
func hashModules(declared map[string]string) (string, error) {
	info, ok := readBuildInfo()
	if !ok {
		return "", errors.New("the program does not say which modules it is built of: give the stage Version instead of Source")
	}
	d := newDigest(info.GoVersion, declared[ownModule])
	for _, s := range info.Settings { // which choose among files, and what they compile to
		if slices.Contains([]string{"-tags", "GOOS", "GOARCH", "CGO_ENABLED", "GOEXPERIMENT"}, s.Key) {
			d.add(s.Key, s.Value)
		}
	}
	listed := declared[ownModule] != ""
	for _, m := range info.Deps {
		listed = listed || m.Path == ownModule
		used := m
		if m.Replace != nil {
			used = m.Replace
		}
		v, ok := declared[m.Path]
		if !ok && (used.Version == "" || used.Version == "(devel)") {
			return "", fmt.Errorf("the module %s has no version, since a directory stands in for it: give the stage Module(%q, …)", m.Path, m.Path)
		}
		d.add(m.Path, v, used.Path, used.Version, used.Sum)
	}
	if !listed {
		return "", fmt.Errorf("the program does not list its modules, as those of tests do not: give the stage Version instead of Source, or Module(%q, …)", ownModule)
	}
	return d.sum(), nil
}

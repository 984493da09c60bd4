// Package stage builds pipelines that cache their results.
//
// A stage is a named function of raw files, parameters and the results of other stages. Running the
// last stage runs the stages whose results are needed but not stored: each once, and independent ones concurrently.
// The result of a stage with [Spec].Cache is stored under a key and computed again only when the key
// changes. The key is a hash of the stage's code, its parameters, the content of its files, the results
// of its ancestors, and the storage format. So after a change of a stage's code, later stages run only if the
// stage's result differs. If an ancestor is not cached, its key replaces its result in the hash.
//
// A result is an [arrow.Table], a [Folder] of files, or a value with a codec. It is stored
// in a directory or in a store of tables; see [Options].
//
// # Promises
//
//   - A stored result is complete. Leftovers of a failed or killed stage are never read;
//     GC removes them, as does the next run that computes the key.
//   - A cached stage returns the result as read back from storage, even on the first run.
//   - Processes that share a directory, or a bucket of tables, compute a key once: the
//     others wait, and one of them takes over if the first dies.
//   - Anything that cannot be hashed is an error: a parameter that contains a function,
//     code that is neither given nor versioned, a module without a version, a file that
//     changes during the run.
//
// # Experimental
//
// Everything in this package may change in any minor version; docs/versions.md says how the API is graded.
package stage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/encode"
)

// Stage is a step of a pipeline, with a result of type T. It is safe for concurrent use.
type Stage[T any] struct{ n *node }

// Any is a stage whose result has any type.
type Any interface{ node() *node }

func (s *Stage[T]) node() *node { return s.n }

type node struct {
	name      string
	run       func(context.Context, *Inputs) (any, error)
	ancestors []*node // direct ancestors
	patterns  []string
	params    []any
	code      []Code
	version   string
	modules   map[string]string
	cache     bool
	ttl       time.Duration
	result    reflect.Type
	codec     *codec
	err       error // error in the Spec, which Run and Plan return
}

// codec is a Spec's Codec, for values of type any, and its CodecName.
type codec struct {
	name   string
	encode func(any) ([]byte, error)
	decode func([]byte) (any, error)
}

var tableType, folderType = reflect.TypeFor[arrow.Table](), reflect.TypeFor[Folder]()

// Folder is the path of a directory with files that a stage created; see [Inputs.Dir]. The files must not
// be modified. GC does not remove them while a run uses them.
type Folder string

// Inputs are the inputs of a stage's function.
type Inputs struct {
	files  []string
	folder string
	values map[*node]any
}

// Files returns the paths of the raw files, in the order of the patterns. The files of each pattern are sorted.
func (in *Inputs) Files() []string { return in.files }

// Dir returns an empty directory for a stage whose result is a [Folder]. The stage must create only
// regular files and directories in it, and return this Folder.
func (in *Inputs) Dir() Folder { return Folder(in.folder) }

// Of returns the result of s to the function of a stage that lists s in Spec.From. For the inputs of other stages, it
// returns an error.
func (s *Stage[T]) Of(in *Inputs) (t T, err error) {
	v, ok := in.values[s.n]
	if !ok {
		return t, fmt.Errorf("stage %q is not a direct ancestor of this stage: list it in Spec.From", s.n.name)
	}
	t, _ = v.(T) // if v is nil, T is an interface, and t remains nil
	return t, nil
}

// Error is the error of a stage.
type Error struct {
	Op    string // "run", "cache" or "hash"
	Stage string
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("%s stage %q: %v", e.Op, e.Stage, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Spec describes a stage whose result is a T. Code or Version is required, because a stored result is valid only for
// the code that computed it.
type Spec[T any] struct {
	// From lists the ancestors of the stage. [Stage.Of] returns their results.
	From []Any

	// Files lists the raw files, as paths or as patterns for [path/filepath.Glob]. Every pattern must match a file.
	Files []string

	// Params are values that the function uses: numbers, strings, times, and structs, slices and maps of
	// these. Pointers, functions and channels are errors, because they cannot be hashed.
	Params []any

	// Code lists the source files of the stage.
	Code []Code

	// Version identifies the stage's code if Code is empty. Change it when the code changes.
	Version string

	// Modules contains module versions, by module path, that are missing from the program's module list because a
	// workspace or a replace directive takes the module from a directory. A test has no module list at all: it needs
	// the version of github.com/go-partd/partd here, and other modules are not part of the key.
	Modules map[string]string

	// Cache makes runs store the stage's result and load it if the key is unchanged.
	Cache bool

	// TTL limits how long a result stays valid after it was computed, even if the program that stored it had a longer
	// TTL. 0 means no limit. After that time, the stage runs again; later stages run only if the result differs. The
	// TTL of a stage without Cache also limits the results computed from it.
	TTL time.Duration

	// Codec encodes results that are neither tables nor folders. CodecName is part of the key: change
	// it when the codec's format changes. Encode should return the same bytes for equal values; otherwise,
	// later stages run more often than necessary.
	Codec     encode.ValueCodec[T]
	CodecName string
}

// Code is a set of files that the program embeds with go:embed. Patterns select files as in [io/fs.Glob];
// without patterns, the set contains all files except tests. Go files are hashed as syntax trees, so
// white space and comments other than directives do not matter. The hash includes the versions of Go and
// of the program's other modules, its build tags, operating system and architecture.
type Code struct {
	Files    fs.FS
	Patterns []string
}

// Define returns a stage that runs f. Run and Plan return an error if the Spec contains a mistake.
//
// Stages share parameters and results, so f must not modify them. Tables need not be released.
func Define[T any](name string, f func(context.Context, *Inputs) (T, error), spec Spec[T]) *Stage[T] {
	n := &node{
		name: name, result: reflect.TypeFor[T](), patterns: spec.Files, params: spec.Params, code: spec.Code, version: spec.Version,
		modules: maps.Clone(spec.Modules), cache: spec.Cache, ttl: spec.TTL,
		run: func(ctx context.Context, in *Inputs) (any, error) { return f(ctx, in) },
	}
	for _, s := range spec.From {
		n.ancestors = append(n.ancestors, s.node())
	}
	needsCodec := n.result != tableType && n.result != folderType
	hasCodec := spec.CodecName != "" || spec.Codec.Encode != nil || spec.Codec.Decode != nil
	switch {
	case n.name == "":
		n.err = errors.New("the stage has no name")
	case f == nil:
		n.err = errors.New("the stage has no function")
	case n.version == "" && len(n.code) == 0:
		n.err = errors.New("the stage has neither Code nor Version: set Spec.Code to embedded files, or Spec.Version")
	case n.result == folderType && !n.cache:
		n.err = errors.New("a stage whose result is a Folder must store it: set Spec.Cache")
	case needsCodec && n.cache && !hasCodec:
		n.err = fmt.Errorf("caching a %v needs a codec: set Spec.Codec", n.result)
	case !hasCodec:
	case spec.Codec.Encode == nil || spec.Codec.Decode == nil:
		n.err = fmt.Errorf("codec %q has no Encode or no Decode: set both", spec.CodecName)
	case spec.CodecName == "":
		n.err = errors.New("the codec has no name: set Spec.CodecName")
	case !needsCodec:
		n.err = fmt.Errorf("a %v needs no codec: remove Spec.Codec and Spec.CodecName", n.result)
	default:
		n.codec = &codec{
			name: spec.CodecName,
			encode: func(v any) ([]byte, error) {
				t, _ := v.(T) // if v is nil, T is an interface, and t remains nil
				return spec.Codec.Encode(nil, t)
			},
			decode: func(b []byte) (any, error) { return spec.Codec.Decode(b) },
		}
	}
	return &Stage[T]{n}
}

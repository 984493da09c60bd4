// Package stage builds pipelines that cache their results.
//
// A stage is a named function of raw files, parameters and the results of other stages. Running the
// last stage runs whatever is missing: a shared ancestor once, and independent stages concurrently.
// The result of a stage with [Spec].Cache is stored under a key, and computed again only when the key
// changes. The key is a hash of the stage's code, its parameters, the content of its files, the keys
// of its ancestors, and the storage format.
//
// A result is an [arrow.Table], a [Folder] of files, or a value with a codec. It is stored
// in a directory, a store of tables or any partd store; see [Options].
//
// # Promises
//
//   - A stored result is complete. What a failed or killed stage left behind is never read;
//     GC removes it, as does the next run that computes the key.
//   - A cached stage returns what was read back from storage, on the first run as on later
//     ones.
//   - Processes that share a directory, or a bucket of tables, compute a key once: the
//     others wait, and one of them takes over if the first dies. Processes that share a
//     partd store but no directory may compute a key twice; each result is complete even
//     then.
//   - Anything that cannot be hashed is an error: a parameter that contains a function,
//     code that is neither given nor versioned, a module without a version, a file that
//     changes during the run.
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

// Stage is a step of a pipeline. Its result is a T. It is safe for concurrent use.
type Stage[T any] struct{ n *node }

// Any is a stage with a result of any type.
type Any interface{ node() *node }

func (s *Stage[T]) node() *node { return s.n }

// node contains the parts of a stage that do not depend on T.
type node struct {
	name      string
	run       func(context.Context, *Inputs) (any, error)
	ancestors []*node // direct ones
	patterns  []string
	params    []any
	code      []Code
	version   string
	modules   map[string]string
	cache     bool
	ttl       time.Duration
	result    reflect.Type
	codec     *codec
	err       error // from Define
}

// codec is an encode.ValueCodec with its name.
type codec struct {
	name   string
	encode func(any) ([]byte, error)
	decode func([]byte) (any, error)
}

var tableType, folderType = reflect.TypeFor[arrow.Table](), reflect.TypeFor[Folder]()

// Folder is the path of a directory of files that a stage made; see [Inputs.Dir]. It must not be
// modified. GC does not remove it while a run uses it.
type Folder string

// Inputs are the inputs of a stage's function.
type Inputs struct {
	files  []string
	folder string
	values map[*node]any
}

// Files returns the paths of the raw files. They are in the order of the patterns, and sorted within
// each pattern.
func (in *Inputs) Files() []string { return in.files }

// Dir returns an empty directory for the files of a stage that makes a [Folder]. The stage must
// return this Folder, and may put only regular files and directories in it.
func (in *Inputs) Dir() Folder { return Folder(in.folder) }

// Of returns the result of s to a stage that lists s in From. It returns an error to any other stage.
func (s *Stage[T]) Of(in *Inputs) (t T, err error) {
	v, ok := in.values[s.n]
	if !ok {
		return t, fmt.Errorf("stage %q is not an ancestor: list it in Spec.From", s.n.name)
	}
	t, _ = v.(T) // nil if T is an interface
	return t, nil
}

// Error reports which stage failed.
type Error struct {
	Op    string // run, cache or hash
	Stage string
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("%s stage %q: %v", e.Op, e.Stage, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Spec describes a stage that makes a T. Code or Version is required: it distinguishes the states of
// the stage's code.
type Spec[T any] struct {
	// From lists the ancestors of the stage. [Stage.Of] returns their results.
	From []Any

	// Files lists the raw files, as paths or as patterns for [path/filepath.Glob]. A pattern without
	// matches is an error.
	Files []string

	// Params are values that the function uses: numbers, text, times, and structs, slices and maps of
	// these. A pointer, function or channel cannot be hashed, and is an error.
	Params []any

	// Code lists the source files of the stage.
	Code []Code

	// Version replaces the code in the key: change it when the code changes.
	Version string

	// Modules gives versions to modules that have none because a directory replaces them, by replace
	// in go.mod or by a workspace. The binary of a test lists no modules: give it the version of
	// github.com/go-partd/partd. Other modules are then not part of the key.
	Modules map[string]string

	// Cache stores the stage's result.
	Cache bool

	// TTL is how long a result stays valid after it was computed, whoever stored it. Results computed
	// from it expire no later. 0 means forever.
	TTL time.Duration

	// Codec encodes results that are neither tables nor folders. CodecName is part of the key: change
	// it when the codec's format changes.
	Codec     encode.ValueCodec[T]
	CodecName string
}

// Code is a set of files that the program embeds with go:embed. Patterns select files as in
// [io/fs.Glob]; without patterns, all files except tests belong to the set. Go files are hashed as
// syntax trees, without comments and white space but with directives such as //go:embed. Other files
// are hashed as they are. The hash includes the versions of Go and of the program's other modules,
// its build tags, operating system and architecture.
type Code struct {
	Files    fs.FS
	Patterns []string
}

// Define returns a stage that runs a function. Run and Plan report any mistake in the Spec.
//
// Stages share their parameters and results, so functions must not modify them. Tables need no
// Release.
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
		n.err = errors.New("a stage that makes a Folder must store it: set Spec.Cache")
	case needsCodec && n.cache && !hasCodec:
		n.err = fmt.Errorf("caching a %v needs a codec: set Spec.Codec", n.result)
	case !hasCodec:
	case spec.Codec.Encode == nil || spec.Codec.Decode == nil:
		n.err = fmt.Errorf("codec %q lacks Encode or Decode", spec.CodecName)
	case spec.CodecName == "":
		n.err = errors.New("the codec has no name: set Spec.CodecName")
	case !needsCodec:
		n.err = fmt.Errorf("a %v is stored without a codec: remove Spec.Codec", n.result)
	default:
		n.codec = &codec{
			name: spec.CodecName,
			encode: func(v any) ([]byte, error) {
				t, _ := v.(T) // nil if T is an interface
				return spec.Codec.Encode(nil, t)
			},
			decode: func(b []byte) (any, error) { return spec.Codec.Decode(b) },
		}
	}
	return &Stage[T]{n}
}

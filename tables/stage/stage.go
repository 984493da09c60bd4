// Package stage builds pipelines that cache their results.
//
// A stage is a named function of raw files, parameters and the results of other stages.
// Running the last stage runs whatever is missing: a shared ancestor once, independent
// stages at the same time. The result of a stage with [Spec].Cache is stored under a key
// and computed again only when the key changes. The key is a hash of the stage's code, its
// parameters, the content of its files, the keys of its ancestors, and the storage format.
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

// node is what does not depend on a stage's type.
type node struct {
	name     string
	run      func(context.Context, *Inputs) (any, error)
	above    []*node // ancestors
	patterns []string
	params   []any
	sources  []source
	version  string
	modules  map[string]string
	cache    bool
	ttl      time.Duration
	result   reflect.Type
	codec    *codec
	err      error // of how it was made
}

// codec is an encode.ValueCodec.
type codec struct {
	name   string
	of     reflect.Type
	encode func(any) ([]byte, error)
	decode func([]byte) (any, error)
}

var tableType, folderType = reflect.TypeFor[arrow.Table](), reflect.TypeFor[Folder]()

// Option configures a stage.
//
// Deprecated: use [Spec].
type Option func(*node)

// From adds to [Spec].From.
//
// Deprecated: use [Define].
func From(stages ...Any) Option {
	return func(n *node) {
		for _, s := range stages {
			n.above = append(n.above, s.node())
		}
	}
}

// Files adds to [Spec].Files.
//
// Deprecated: use [Define].
func Files(patterns ...string) Option {
	return func(n *node) { n.patterns = append(n.patterns, patterns...) }
}

// Params adds to [Spec].Params.
//
// Deprecated: use [Define].
func Params(values ...any) Option {
	return func(n *node) { n.params = append(n.params, values...) }
}

// Cache sets [Spec].Cache.
//
// Deprecated: use [Define].
func Cache(keep bool) Option { return func(n *node) { n.cache = keep } }

// TTL sets [Spec].TTL.
//
// Deprecated: use [Define].
func TTL(d time.Duration) Option { return func(n *node) { n.ttl = d } }

// Codec sets [Spec].Codec and CodecName.
//
// Deprecated: use [Define].
func Codec[T any](name string, c encode.ValueCodec[T]) Option {
	return func(n *node) {
		n.codec = &codec{name: name, of: reflect.TypeFor[T]()}
		if c.Encode != nil {
			n.codec.encode = func(v any) ([]byte, error) {
				t, _ := v.(T) // nil, where T is an interface
				return c.Encode(nil, t)
			}
		}
		if c.Decode != nil {
			n.codec.decode = func(b []byte) (any, error) { return c.Decode(b) }
		}
	}
}

// New makes a stage from a function. It needs [Source] or [Version], to tell one state of
// the code from another.
//
// Deprecated: use [Define], which takes a [Spec].
func New[T any](name string, f func(context.Context, *Inputs) (T, error), options ...Option) *Stage[T] {
	n := &node{name: name, result: reflect.TypeFor[T](), modules: map[string]string{}}
	for _, o := range options {
		o(n)
	}
	return define(n, f)
}

func define[T any](n *node, f func(context.Context, *Inputs) (T, error)) *Stage[T] {
	n.run = func(ctx context.Context, in *Inputs) (any, error) { return f(ctx, in) }
	coded := n.result != tableType && n.result != folderType
	switch {
	case n.name == "":
		n.err = errors.New("the stage has no name")
	case f == nil:
		n.err = errors.New("the stage has no function")
	case n.version == "" && len(n.sources) == 0:
		n.err = errors.New("nothing is said of its code: give it Code, with files that are embedded, or Version")
	case n.result == folderType && !n.cache:
		n.err = errors.New("files of a stage have to be kept: give it Cache")
	case coded && n.cache && n.codec == nil:
		n.err = fmt.Errorf("a %v is kept by a codec: give it Codec", n.result)
	case n.codec != nil && (n.codec.encode == nil || n.codec.decode == nil):
		n.err = fmt.Errorf("the codec %q lacks Encode or Decode", n.codec.name)
	case n.codec != nil && n.codec.name == "":
		n.err = errors.New("the codec has no name: the key of the result needs it")
	case n.codec != nil && (n.codec.of != n.result || !coded):
		n.err = fmt.Errorf("it makes a %v, and its codec is for a %v", n.result, n.codec.of)
	}
	return &Stage[T]{n}
}

// Folder is the path of a directory of files that a stage made; see [Inputs.Dir]. Do not
// change it. GC does not remove it while a run uses it.
type Folder string

// Inputs are what a stage's function works on.
type Inputs struct {
	files  []string
	folder string
	values map[*node]any
}

// Files returns the paths of the raw files, in the order of their patterns, and sorted
// within each pattern.
func (in *Inputs) Files() []string { return in.files }

// Dir returns an empty directory for the files of a stage that makes a [Folder]. The stage
// must return this Folder, with nothing but regular files and directories in it.
func (in *Inputs) Dir() Folder { return Folder(in.folder) }

// Of returns the result of s to a stage that names s in From. For any other stage it is an
// error.
func (s *Stage[T]) Of(in *Inputs) (t T, err error) {
	v, ok := in.values[s.n]
	if !ok {
		return t, fmt.Errorf("the stage %q is no ancestor: name it in From", s.n.name)
	}
	t, _ = v.(T) // nil, where T is an interface
	return t, nil
}

// Error reports which stage failed.
type Error struct {
	Op    string // run, keep or hash
	Stage string
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("%s stage %q: %v", e.Op, e.Stage, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

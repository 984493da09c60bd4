package stage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"time"

	"github.com/go-partd/partd/encode"
)

// Spec describes a stage that makes a T. It needs Code or Version, to tell one state of the
// stage's code from another.
type Spec[T any] struct {
	// From lists the ancestors of the stage, whose results it gets from [Stage.Of].
	From []Any

	// Files lists the raw files, as paths or as patterns for [path/filepath.Glob]. A
	// pattern that matches nothing is an error.
	Files []string

	// Params are values that the function uses: numbers, text, times, and structs, slices
	// and maps of these. A pointer, function or channel cannot be hashed and is an error.
	Params []any

	// Code lists the source files of the stage.
	Code []Code

	// Version stands for the code: change it when the code changes.
	Version string

	// Modules gives versions to modules that have none because a directory replaces them
	// (replace in go.mod, or a workspace). The binary of a test lists no modules: give the
	// version of github.com/go-partd/partd there; those of other modules are not part of
	// the key.
	Modules map[string]string

	// Cache stores the stage's result.
	Cache bool

	// TTL is how long a result stays valid after it was made, whoever stored it. Results
	// made from it expire with it. 0 means forever.
	TTL time.Duration

	// Codec encodes results that are neither tables nor folders. CodecName is part of the
	// key: change it when the codec writes other bytes.
	Codec     encode.ValueCodec[T]
	CodecName string
}

// Code is a set of files that the program embeds with go:embed: all except tests, or those
// that match Patterns, which are as in [io/fs.Glob]. Go files are hashed as syntax trees,
// without comments and white space but with directives such as //go:embed; other files are
// hashed as they are. The hash includes the versions of Go and of the program's other
// modules, its build tags, operating system and architecture.
type Code struct {
	Files    fs.FS
	Patterns []string
}

// Define makes a stage from a function. Run and Plan report any mistake in the Spec.
//
// Stages share what they are given and what they return, so none of it may be changed.
// Tables need no Release.
func Define[T any](name string, f func(context.Context, *Inputs) (T, error), spec Spec[T]) *Stage[T] {
	n := &node{
		name: name, result: reflect.TypeFor[T](), patterns: spec.Files, params: spec.Params, code: spec.Code, version: spec.Version,
		modules: maps.Clone(spec.Modules), cache: spec.Cache, ttl: spec.TTL,
		run: func(ctx context.Context, in *Inputs) (any, error) { return f(ctx, in) },
	}
	for _, s := range spec.From {
		n.above = append(n.above, s.node())
	}
	coded := n.result != tableType && n.result != folderType
	hasCodec := spec.CodecName != "" || spec.Codec.Encode != nil || spec.Codec.Decode != nil
	switch {
	case n.name == "":
		n.err = errors.New("the stage has no name")
	case f == nil:
		n.err = errors.New("the stage has no function")
	case n.version == "" && len(n.code) == 0:
		n.err = errors.New("nothing is said of its code: give it Code, with files that are embedded, or Version")
	case n.result == folderType && !n.cache:
		n.err = errors.New("files of a stage have to be kept: give it Cache")
	case coded && n.cache && !hasCodec:
		n.err = fmt.Errorf("a %v is kept by a codec: give it Codec", n.result)
	case !hasCodec:
	case spec.Codec.Encode == nil || spec.Codec.Decode == nil:
		n.err = fmt.Errorf("the codec %q lacks Encode or Decode", spec.CodecName)
	case spec.CodecName == "":
		n.err = errors.New("the codec has no name: the key of the result needs it")
	case !coded:
		n.err = fmt.Errorf("a %v is kept without a codec: leave out Codec", n.result)
	default:
		n.codec = &codec{
			name: spec.CodecName,
			encode: func(v any) ([]byte, error) {
				t, _ := v.(T) // nil, where T is an interface
				return spec.Codec.Encode(nil, t)
			},
			decode: func(b []byte) (any, error) { return spec.Codec.Decode(b) },
		}
	}
	return &Stage[T]{n}
}

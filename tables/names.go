package tables

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// checkName says why a name is none. A bucket may be "", and a snapshot to be made;
// a table may not.
func checkName(what, name string) error {
	wrong := func(format string, args ...any) error { return &ArgumentError{Err: fmt.Errorf(format, args...)} }
	switch {
	case len(name) > MaxName:
		return wrong("the name of the %s has %d bytes, the limit is %d", what, len(name), MaxName)
	case !utf8.ValidString(name):
		return wrong("the name of the %s is not valid UTF-8", what)
	case what == "table" && name == "":
		return wrong("the name of the table is empty")
	case strings.IndexByte(name, 0) >= 0:
		return wrong("the name of the %s holds a zero byte", what)
	}
	return nil
}

// The default bucket is the namespace "default", since a namespace cannot be
// empty. A bucket that would have that name, or one that ends up as another's,
// gets an underscore more.
const defaultNamespace = "default"

func namespaceOf(bucket string) string {
	if bucket == "" {
		return defaultNamespace
	}
	if strings.TrimRight(bucket, "_") == defaultNamespace {
		return bucket + "_"
	}
	return bucket
}

func bucketOf(namespace string) string {
	if namespace == defaultNamespace {
		return ""
	}
	if strings.TrimRight(namespace, "_") == defaultNamespace {
		return namespace[:len(namespace)-1]
	}
	return namespace
}

// noSlashes makes a pattern or a name one in which a slash is as any other
// character to path.Match.
func noSlashes(s string) string { return strings.ReplaceAll(s, "/", "\x00") }

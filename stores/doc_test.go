package stores

import (
	"fmt"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/logstore"
)

// listing is what the package comment has to list: from the tables that URLs are
// parsed with.
func listing() string {
	var b strings.Builder
	part := func(name, about string, options []option) {
		fmt.Fprintf(&b, "\t%-14s %s\n", name, about)
		for _, o := range options {
			fallback := ""
			if o.fallback != "" {
				fallback = ", default " + o.fallback
			}
			fmt.Fprintf(&b, "\t  %s=%s%s: %s\n", o.name, o.kind.usage, fallback, o.about)
		}
	}
	b.WriteString("# Schemes\n\n")
	for _, s := range stores() {
		part(s.usage, s.about, s.options)
	}
	b.WriteString("\n# Layers\n\n")
	for _, l := range layers() {
		part(l.name+"+", l.about, l.options)
	}
	return b.String()
}

func TestPackageCommentListsEverything(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "stores.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	if want := listing(); !strings.Contains(file.Doc.Text(), want) {
		t.Errorf("the package comment does not have this list:\n//\n// %s", strings.ReplaceAll(strings.ReplaceAll(want, "\n", "\n// "), "// \t", "//\t"))
	}
}

// TestFallbacks compares what options are said to be with what they are.
func TestFallbacks(t *testing.T) {
	said := map[string]string{}
	note := func(owner string, options []option) {
		for _, o := range options {
			said[owner+"."+o.name] = o.fallback
		}
	}
	for _, s := range stores() {
		note(s.name, s.options)
	}
	for _, l := range layers() {
		note(l.name, l.options)
	}
	for name, is := range map[string]int64{
		"buffer.memory": partd.DefaultBufferMemory, "log.memory": logstore.DefaultMemory,
		"zstd.limit": compress.DefaultLimit, "blosc.limit": compress.DefaultLimit,
	} {
		if n, err := ParseSize(said[name]); n != is || err != nil {
			t.Errorf("%s is said to be %s (%d, %v), and is %d", name, said[name], n, err, is)
		}
	}
	// A layer with the level that is said compresses as one without any.
	var text []byte
	for i := range 20_000 {
		text = fmt.Appendf(text, "%d bottles of beer, ", i*i%7919)
	}
	stored := func(url string) string {
		store, err := Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Append(t.Context(), partd.Entry{Key: "k", Value: text}); err != nil {
			t.Fatal(err)
		}
		values, err := store.(partd.Unwrapper).Unwrap().Get(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		return string(values[0])
	}
	for _, format := range compress.Formats() {
		if format.MaxLevel() == 0 {
			continue
		}
		url := string(format) + "+mem:"
		level, _, _ := strings.Cut(said[string(format)+".level"], " ")
		if stored(url) != stored(url+"?level="+level) {
			t.Errorf("%s: level %s, which is said to be the default, compresses otherwise", url, level)
		}
	}
	if stored("blosc+mem:?codec=zstd") != stored("blosc+mem:?codec=zstd&level=2") {
		t.Error("blosc, codec zstd: level 2 is not the default")
	}
	if stored("blosc+mem:") != stored("blosc+mem:?typesize=8&shuffle=byte&codec=lz4") {
		t.Error("blosc: the defaults are others than is said")
	}
}

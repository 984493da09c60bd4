package stores

import (
	"fmt"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
)

// helpListing returns the list of schemes and layers that the package comment must contain.
func helpListing() string {
	var b strings.Builder
	writeEntry := func(name, help string, options []option) {
		fmt.Fprintf(&b, "\t%-14s %s\n", name, help)
		for _, o := range options {
			fallback := ""
			if o.fallback != "" {
				fallback = ", default " + o.fallback
			}
			fmt.Fprintf(&b, "\t  %s=%s%s: %s\n", o.name, o.kind.usage, fallback, o.help)
		}
	}
	b.WriteString("# Schemes\n\n")
	for _, s := range stores() {
		writeEntry(s.usage, s.help, s.options)
	}
	b.WriteString("\n# Layers\n\n")
	for _, l := range layers() {
		writeEntry(l.name+"+", l.help, l.options)
	}
	return b.String()
}

func TestPackageCommentListsEverything(t *testing.T) {
	file := must.Get(parser.ParseFile(token.NewFileSet(), "stores.go", nil, parser.ParseComments|parser.PackageClauseOnly))(t)
	if want := helpListing(); !strings.Contains(file.Doc.Text(), want) {
		t.Errorf("the package comment lacks this list:\n//\n// %s", strings.ReplaceAll(strings.ReplaceAll(want, "\n", "\n// "), "// \t", "//\t"))
	}
}

// TestFallbacks checks that the documented defaults are the real ones.
func TestFallbacks(t *testing.T) {
	documented := map[string]string{}
	document := func(owner string, options []option) {
		for _, o := range options {
			documented[owner+"."+o.name] = o.fallback
		}
	}
	for _, s := range stores() {
		document(s.name, s.options)
	}
	for _, l := range layers() {
		document(l.name, l.options)
	}
	for name, actual := range map[string]int64{
		"buffer.memory": partd.DefaultBufferMemory, "log.memory": logstore.DefaultMemory,
		"zstd.limit": compress.DefaultLimit, "blosc.limit": compress.DefaultLimit,
	} {
		if n, err := ParseSize(documented[name]); n != actual || err != nil {
			t.Errorf("the documented default of %s is %s (%d, %v), but the real one is %d", name, documented[name], n, err, actual)
		}
	}
	// A layer with the documented default level must compress like one without a level.
	var text []byte
	for i := range 20_000 {
		text = fmt.Appendf(text, "%d bottles of beer, ", i*i%7919)
	}
	stored := func(url string) string {
		store := must.Get(Open(t.Context(), url))(t)
		must.Do(t, store.Append(t.Context(), partd.Entry{Key: "k", Value: text}))
		values := must.Get(store.(partd.Unwrapper).Unwrap().Get(t.Context(), "k"))(t)
		return string(values[0])
	}
	for _, format := range compress.Formats() {
		if format.MaxLevel() == 0 {
			continue
		}
		url := string(format) + "+mem:"
		level, _, _ := strings.Cut(documented[string(format)+".level"], " ")
		if stored(url) != stored(url+"?level="+level) {
			t.Errorf("%s: level %s, documented as the default, compresses differently", url, level)
		}
	}
	if stored("blosc+mem:?codec=zstd") != stored("blosc+mem:?codec=zstd&level=2") {
		t.Error("blosc with codec zstd: level 2, documented as the default, compresses differently")
	}
	if stored("blosc+mem:") != stored("blosc+mem:?typesize=8&shuffle=byte&codec=lz4") {
		t.Error("blosc: the documented defaults compress differently")
	}
}

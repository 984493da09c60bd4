package operations

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

var update = flag.Bool("update", false, "write the table of operations in docs/dev/tables-wire.md again")

// TestOperations checks that names are unique and in the common style, and that aliases work. Each operation that a
// Store can run must have a command, and must need a permit if and only if it writes.
func TestOperations(t *testing.T) {
	names := map[string]bool{}
	for _, o := range All() {
		if !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(o.Name) || names[o.Name] {
			t.Errorf("%q is used twice, or not in the common style", o.Name)
		}
		names[o.Name] = true
		byServer := o.Run == nil
		if o.Writes != (o.Slots != NoSlot) && !byServer {
			t.Errorf("%s: Writes is %v, but Slots is %d", o.Name, o.Writes, o.Slots)
		}
		if (o.Command == "") != byServer {
			t.Errorf("%s: the command is %q", o.Name, o.Command)
		}
		for _, name := range append([]string{o.Name, strings.ReplaceAll(o.Name, "_", "-"), strings.TrimPrefix(o.Action(), prefix)}, o.Aliases...) {
			if ByName(name) != o || ByAction(prefix+name) != o || ByAction(name) != nil {
				t.Errorf("%s cannot be found as %s", o.Name, name)
			}
		}
	}
}

func TestDocs(t *testing.T) {
	file := filepath.Join("..", "..", "..", "..", "docs", "dev", "tables-wire.md")
	text := must.Get(os.ReadFile(file))(t)
	const head = "| action | right | slots | takes | answers | command |\n"
	before, afterHead, ok := strings.Cut(string(text), head)
	if !ok {
		t.Fatalf("%s has no line %q", file, head)
	}
	old, after, _ := strings.Cut(afterHead, "\n\n")
	if want := docsTable(); old+"\n" != want {
		if !*update {
			t.Fatalf("%s is out of date: run go test -run TestDocs ./internal/faces/operations -update", file)
		}
		must.Do(t, os.WriteFile(file, []byte(before+head+want+"\n"+after), 0o666))
	}
}

// docsTable returns the table of operations for docs/dev/tables-wire.md, without its first line.
func docsTable() string {
	var b strings.Builder
	b.WriteString("|---|---|---|---|---|---|\n")
	for _, o := range All() {
		command := "none"
		if o.Command != "" {
			command = "`" + o.Command + "`"
		}
		fmt.Fprintf(&b, "| `%s%s` | %s | %s | `%s` | `%s` | %s |\n", prefix, o.Name, map[bool]string{true: "admin", false: "read"}[o.Writes],
			[]string{"none", "put", "query, put", "copy"}[o.Slots], shape(o.Input), shape(o.Output), command)
	}
	return b.String()
}

func shape(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "[" + shape(t.Elem()) + "…]"
	case reflect.Struct:
		var names []string
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" && !f.Anonymous {
				name = f.Name
			}
			if name != "" && name != "-" && f.IsExported() {
				names = append(names, `"`+name+`"`)
			}
		}
		return "{" + strings.Join(names, ",") + "}"
	case reflect.String:
		return `"…"`
	}
	return "{…}"
}

// TestCopyFields checks the fields of each request that copies or verifies files. A server must honor every listed
// field: a restore that ignored a list of tables would replace all others.
func TestCopyFields(t *testing.T) {
	want := map[string]string{
		"backup": `{"dir","rate","name","buckets"}`, "copy": `{"dir","rate","buckets"}`, "restore_backup": `{"dir","rate","name","buckets","tables"}`,
		"backups": `{"dir"}`, "verify": `{"dir","rate","buckets","tables"}`,
	}
	for _, o := range All() {
		if _, isCopy := reflect.New(o.Input).Interface().(interface{ Location() *Copying }); isCopy != (o.Slots == CopySlot) {
			t.Errorf("%s: the request says where copies are: %v", o.Name, isCopy)
		}
		if got := shape(o.Input); o.Slots == CopySlot && got != want[o.Name] {
			t.Errorf("%s has the fields %s, want %s", o.Name, got, want[o.Name])
		}
		delete(want, o.Name)
	}
	if len(want) > 0 {
		t.Errorf("the operations %v do not exist", want)
	}
}

package operations

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
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

// TestPythonReads checks that the Python client treats exactly the operations that change nothing as reads, and a
// request for a lock, which expires by itself. Other calls without an answer have an unknown outcome.
func TestPythonReads(t *testing.T) {
	text := string(must.Get(os.ReadFile(filepath.Join("..", "..", "..", "..", "python", "partd_go", "tables", "connection.py")))(t))
	_, list, _ := strings.Cut(text, "_REPEATABLE_ACTIONS = {")
	list, _, _ = strings.Cut(list, "}")
	var got []string
	for _, m := range regexp.MustCompile(`"partd\.(\w+)"`).FindAllStringSubmatch(list, -1) {
		got = append(got, m[1])
	}
	want := []string{"lock"}
	for _, o := range All() {
		if !o.Writes {
			want = append(want, o.Name)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("_REPEATABLE_ACTIONS has %q, want %q", got, want)
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

// TestEmptyKeys checks that a ticket distinguishes nil, which means the table's keys, from an empty list, which means
// no keys.
func TestEmptyKeys(t *testing.T) {
	for _, keys := range [][]string{nil, {}} {
		var got Changes
		text := must.Get(json.Marshal(Changes{Partd: ChangesCall, Keys: keys}))(t)
		if err := Unmarshal(text, &got); err != nil || (got.Keys == nil) != (keys == nil) {
			t.Errorf("keys %#v arrive as %#v, error %v", keys, got.Keys, err)
		}
	}
}

// TestDecodeParameters checks that no rows of parameters are lost: a stream with more than one batch is refused.
func TestDecodeParameters(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "1", Type: arrow.PrimitiveTypes.Int64}}, nil)
	values := array.NewInt64Builder(memory.DefaultAllocator)
	values.AppendValues([]int64{1, 2}, nil)
	rows := array.NewRecordBatch(schema, []arrow.Array{values.NewArray()}, 2)
	stream := must.Get(EncodeParameters(rows))(t)
	if got, err := DecodeParameters(t.Context(), stream, 1<<20); err != nil || !array.RecordEqual(got, rows) {
		t.Errorf("decoded %v, error %v; want %v", got, err, rows)
	}
	var b bytes.Buffer
	w := ipc.NewWriter(&b, ipc.WithSchema(schema))
	for range 2 {
		must.Do(t, w.Write(rows))
	}
	must.Do(t, w.Close())
	must.Fail(t, must.Err(DecodeParameters(t.Context(), b.Bytes(), 1<<20)), "more than one batch", "two batches")
}

// TestFields checks that the page about the wire lists all fields of the tickets for a scan and for resampled rows, in any
// order, and that Python's client sends them.
func TestFields(t *testing.T) {
	scan := tables.ScanOptions{Columns: []string{"a"}, Filter: filter.Eq("a", 1), Limit: 1, Last: 1, Part: 1, Dictionaries: true, From: time.Unix(1, 0), To: time.Unix(1, 0), TimeColumn: "a"}
	tabletest.CheckSet(t, scan, "Recycle", "ChunkRows") // the JSON lacks these two
	table := Table{"b", "n", State{new(tables.Version), "s", time.Unix(1, 0)}}
	checkFields(t, ScanCall, Scan{Partd: ScanCall, Table: table, ScanOptions: scan}, "from", "to", "time_column", // where selects times
		"version", "snapshot", "time") // the function state sends these
	checkFields(t, ResampleCall, Resampling{Partd: ResampleCall}, "TimeIndex")
}

// TestProtocolOfPage compares the protocol's version and header with docs/dev/tables-wire.md and with the Python client.
func TestProtocolOfPage(t *testing.T) {
	root := filepath.Join("..", "..", "..", "..")
	for name, want := range map[string]string{
		"docs/dev/tables-wire.md":              fmt.Sprintf("Our clients send the protocol's version, %d, in the header `%s`.", ProtocolVersion, ProtocolHeader),
		"python/partd_go/tables/connection.py": fmt.Sprintf(`_PROTOCOL = (b"%s", b"%d")`, ProtocolHeader, ProtocolVersion),
	} {
		if text := must.Get(os.ReadFile(filepath.Join(root, filepath.FromSlash(name))))(t); !strings.Contains(string(text), want) {
			t.Errorf("%s does not contain %q", name, want)
		}
	}
}

// checkFields checks the fields of a ticket. pythonLacks lists those that Python's client does not send, or not in the
// place where it sends the others.
func checkFields(t *testing.T, call string, message any, pythonLacks ...string) {
	var fields map[string]any
	must.Do(t, json.Unmarshal(must.Get(json.Marshal(message))(t), &fields))
	delete(fields, "Target") // the ticket ignores these two
	delete(fields, "Mode")
	page := string(must.Get(os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "dev", "tables-wire.md")))(t))
	ticket := regexp.MustCompile(`\{"partd":"` + call + `",[^}]*\}`).FindString(page)
	var listed []string
	for _, m := range regexp.MustCompile(`"([A-Za-z_]+)"`).FindAllStringSubmatch(ticket, -1) {
		listed = append(listed, m[1])
	}
	listed = slices.DeleteFunc(listed, func(name string) bool { return name == call })
	slices.Sort(listed)
	if want := slices.Sorted(maps.Keys(fields)); !slices.Equal(listed, want) {
		t.Errorf("docs/dev/tables-wire.md lists the fields %q, and the ticket %s has %q", listed, call, want)
	}
	var sent string
	for _, name := range must.Get(filepath.Glob(filepath.Join("..", "..", "..", "..", "python", "partd_go", "tables", "*.py")))(t) {
		code := string(must.Get(os.ReadFile(name))(t))
		if strings.Contains(code, `"partd": "`+call+`"`) {
			sent = code
		}
	}
	for name := range fields {
		if !slices.Contains(pythonLacks, name) && !strings.Contains(sent, `"`+name+`"`) {
			t.Errorf("Python's client never sends the field %q of the ticket %s", name, call)
		}
	}
}

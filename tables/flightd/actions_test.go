package flightd

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/iceberg-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/transform"
)

// TestResampleFields checks that the action resample passes on every option.
func TestResampleFields(t *testing.T) {
	want := transform.ResampleOptions{
		Source: transform.TableName{Bucket: "b", Name: "in"}, Target: transform.TableName{Bucket: "c", Name: "out"}, Rule: "7min",
		TimeColumn: "ts", TimeIndex: true, Functions: []string{"max", "min(low)"}, Columns: []string{"high"}, By: []string{"sym"}, Mode: tables.PutReplace,
	}
	tabletest.CheckSet(t, want, "SQL")
	var fields map[string]any
	must.Do(t, json.Unmarshal(must.Get(json.Marshal(want))(t), &fields))
	maps.Copy(fields, map[string]any{"source_bucket": "b", "target_bucket": "c", "Mode": "replace", "time_col": "ts", "aggregation_func": "max,min(low)"})
	for _, name := range []string{"TimeColumn", "Functions"} { // the action has other names for these
		delete(fields, name)
	}
	var c resampleInput
	must.Do(t, decode(must.Get(json.Marshal(fields))(t), &c))
	if got := must.Get(c.options())(t); !reflect.DeepEqual(*got, want) {
		t.Errorf("the input of the operation is %+v, want %+v", *got, want)
	}
	c.SQL = "SELECT 5"
	statement := transform.ResampleOptions{Source: want.Source, Target: want.Target, SQL: c.SQL, Mode: want.Mode}
	if got := must.Get(c.options())(t); !reflect.DeepEqual(*got, statement) {
		t.Errorf("with SQL, the input of the operation is %+v, want %+v", *got, statement)
	}
}

// TestCombineAndCleanInJSON checks that the actions combine and clean accept tables as names and as objects.
func TestCombineAndCleanInJSON(t *testing.T) {
	s := serveDuck(t)
	ctx := t.Context()
	s.put(t, "", "t", 3)
	s.put(t, "b", "t", 2)
	count := func(bucket, name string) int64 {
		t.Helper()
		info := must.Get(s.store.Bucket(bucket).Table(name).Info(ctx))(t)
		return info.Rows
	}
	for _, c := range []struct {
		kind, body, reply string
		bucket, target    string
		rows              int64
	}{
		{"combine", `{"sources":["t",{"bucket":"b","name":"t"}],"target":{"bucket":"c","name":"all"},"how":"union"}`, `{"source_rows":5,"target_rows":5}`, "c", "all", 5},
		{"combine", `{"sources":["t",{"bucket":"b","name":"t"}],"target":"both","how":"join","on":["n","s"],"mode":"error"}`, `{"source_rows":5,"target_rows":2}`, "", "both", 2},
		{"combine", `{"sources":["t","t"],"target":"both","how":"union","mode":"append"}`, `{"source_rows":6,"target_rows":6}`, "", "both", 8},
		{"clean", `{"source":"both","target":"first","keep_first_of":["n"]}`, `{"source_rows":8,"target_rows":3}`, "", "first", 3},
		{"clean", `{"source":"both","where":"n > 0","drop_nulls":["s"]}`, `{"source_rows":8,"target_rows":5}`, "", "both", 5},
		{"clean", `{"source":{"bucket":"c","name":"all"},"target":"none null","drop_nulls":true,"mode":"replace"}`, `{"source_rows":5,"target_rows":5}`, "", "none null", 5},
	} {
		got, err := doAction(ctx, s.client.Client, c.kind, c.body)
		if err != nil || got != c.reply || count(c.bucket, c.target) != c.rows {
			t.Errorf("%s %s = %s, error %v; want %s and %d rows in the target", c.kind, c.body, got, err, c.reply, c.rows)
		}
	}
	for body, want := range map[string]string{
		`{"sources":["t","missing"],"target":"x","how":"union"}`: "FileNotFoundError",
		`{"sources":["t","t"],"target":"both","how":"union"}`:    "FileExistsError",
		`{"sources":["t","t"],"target":"x","how":"beside"}`:      "ShootsIOError",
		`{"sources":["t","t"],"target":"x","mode":"upsert"}`:     "ShootsIOError",
		`{"target":"x"}`: "ShootsIOError",
	} {
		if kind := errorType(t, s.client.Client, "combine", body); kind != want {
			t.Errorf("combine %s: got error type %s, want %s", body, kind, want)
		}
	}
	must.Fail(t, must.Err(s.store.Bucket("").Table("x").Info(ctx)), tables.ErrNotFound, "after refused actions, Table")
}

// errorType returns the type of an action's error, which it reads in the same way as clients of the shoots server.
func errorType(t *testing.T, c flight.Client, kind, body string) string {
	t.Helper()
	st, err := c.DoAction(t.Context(), &flight.Action{Type: kind, Body: []byte(body)})
	if err == nil {
		_, err = st.Recv()
	}
	var detail struct{ Type, Message string }
	if output := strings.Join(st.Trailer().Get("grpc-status-details-bin"), ""); json.Unmarshal([]byte(output), &detail) != nil {
		t.Errorf("the error %v has the detail %q, which is not JSON", err, output)
	}
	return detail.Type
}

// TestListActions checks that ListActions returns the actions sorted by name.
func TestListActions(t *testing.T) {
	_, _, address := serveTest(t, nil)
	c := dialTest(t, address)
	for range 5 {
		st := must.Get(c.ListActions(t.Context(), &flight.Empty{}))(t)
		var names []string
		for {
			a, err := st.Recv()
			if err == io.EOF {
				break
			}
			must.Do(t, err)
			if _, ok := actions[a.Type]; ok {
				names = append(names, a.Type)
			}
		}
		if len(names) != len(actions) || !slices.IsSorted(names) {
			t.Fatalf("the actions are %q, want all %d, sorted", names, len(actions))
		}
	}
}

// TestOperations checks that every operation is an action under each of its names, requires the right that
// package operations defines, and refuses input that is not JSON.
func TestOperations(t *testing.T) {
	_, _, address := serveTest(t, &Options{Secret: testSecret})
	client := dialTest(t, address)
	reader, _ := withToken(t, testSecret, Read)
	admin, _ := withToken(t, testSecret, Admin)
	for _, o := range operations.All() {
		for _, name := range []string{"partd." + o.Name, o.Action(), strings.ReplaceAll("partd."+o.Name, "_", "-")} {
			_, err := doAction(reader, client, name, "nonsense")
			if want := map[bool]codes.Code{true: codes.PermissionDenied, false: codes.InvalidArgument}[o.Writes]; status.Code(err) != want {
				t.Errorf("%s with a read token: got %v, want %v", name, err, want)
			}
			if _, err := doAction(admin, client, name, "nonsense"); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s with an admin token: got %v, want InvalidArgument", name, err)
			}
		}
	}
	if _, err := doAction(admin, client, "partd.nothing", "{}"); status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "upgrade the server") {
		t.Errorf("the unknown action partd.nothing: error %v, want Unimplemented and advice", err)
	}
}

// TestMaximumOfRows checks that a number of rows that is only a maximum is unknown in a FlightInfo, and marked in the
// answers of actions.
func TestMaximumOfRows(t *testing.T) {
	_, store, address := serveTest(t, nil)
	c := dialTest(t, address)
	for _, name := range []string{"exact", "most"} {
		tabletest.Put(t, store.Bucket(""), name, tables.PutAppend, 0, 1, 2)
	}
	tabletest.Fold(t, store)
	engine := tabletest.NewEngine(t, store, "", "most")
	engine.MergeOnRead(2)
	engine.Delete(iceberg.EqualTo(iceberg.Reference("n"), int64(1)))
	listed := map[string]int64{}
	flights := must.Get(c.ListFlights(t.Context(), &flight.Criteria{}))(t)
	for {
		info, err := flights.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		must.Do(t, err)
		listed[info.FlightDescriptor.Path[0]] = info.TotalRecords
	}
	for name, want := range map[string]int64{"exact": 3, "most": -1} {
		info := must.Get(c.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{name}}))(t)
		if info.TotalRecords != want || listed[name] != want {
			t.Errorf("FlightInfo of %s has %d rows, and %d in the list; want %d", name, info.TotalRecords, listed[name], want)
		}
		for _, action := range []string{"partd.describe", "partd.versions"} {
			results := must.Get(c.DoAction(t.Context(), &flight.Action{Type: action, Body: []byte(`{"name":"` + name + `"}`)}))(t)
			body := string(must.Get(results.Recv())(t).Body)
			if strings.Contains(body, `"RowsExact":false`) != (want < 0) || strings.Contains(body, `"RowsExact":true`) {
				t.Errorf("%s of %s answered %s, want RowsExact false only for a maximum", action, name, body)
			}
		}
	}
	var decoded tables.VersionInfo
	must.Do(t, json.Unmarshal([]byte(`{"Rows":3,"RowsExact":false}`), &decoded))
	if !decoded.AtMost || decoded.Rows != 3 {
		t.Errorf("the decoded version is %+v, want at most 3 rows", decoded)
	}
}

package tables

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	b := s.Bucket("b")
	ctx := t.Context()
	put := func(m PutMode, o *PutOptions, ns ...int64) error {
		_, err := b.Table("t").Put(ctx, rowsOf(ns...), m, o)
		return err
	}
	wantSettings := func(wantSettings Settings) {
		t.Helper()
		table := b.Table("t")
		got, err := table.Settings(ctx)
		if err != nil || !reflect.DeepEqual(got, wantSettings) {
			t.Fatalf("Settings = %+v, want %+v; error: %v", got, wantSettings, err)
		}
	}
	first := Settings{Keys: []string{"n"}}
	if err := put(PutAppend, &PutOptions{Settings: &first}, 1, 2); err != nil {
		t.Fatal(err)
	}
	wantSettings(first)
	if err := put(PutReplace, nil, 3); err != nil {
		t.Fatal(err)
	}
	wantSettings(first)
	second := Settings{Keys: []string{"s", "n"}, OnDuplicate: KeepAll}
	if err := put(PutReplace, &PutOptions{Settings: &second}, 4); err != nil {
		t.Fatal(err)
	}
	wantSettings(second)
	if err := b.Table("t").SetSettings(ctx, first); err != nil {
		t.Fatal(err)
	}
	wantSettings(first)
	for _, bad := range []Settings{
		{Time: "n"}, {Time: "missing"}, {Keys: []string{"n", "n"}}, {OnDuplicate: "most"}, {OnDuplicate: KeepLast},
	} {
		if err := b.Table("t").SetSettings(ctx, bad); err == nil {
			t.Errorf("SetSettings(%+v) succeeded, want an error", bad)
		}
		if err := put(PutReplace, &PutOptions{Settings: &bad}, 5); err == nil {
			t.Errorf("Put with settings %+v succeeded, want an error", bad)
		}
	}
	wantSettings(first)
	wantRows(t, b, "t", 4)
	if err := b.Table("t").SetSettings(ctx, Settings{}); err != nil {
		t.Fatal(err)
	}
	wantSettings(Settings{})
	if err := b.Table("none").SetSettings(ctx, first); !errors.Is(err, ErrNotFound) {
		t.Errorf("SetSettings of a missing table: error = %v, want ErrNotFound", err)
	}
}

// TestUnknownSettings checks that unknown settings are rejected with a suggestion, and that marshaled settings are read
// back unchanged.
func TestUnknownSettings(t *testing.T) {
	var s Settings
	if err := json.Unmarshal([]byte(`{"tiem": "day"}`), &s); err == nil || !strings.Contains(err.Error(), `unknown setting "tiem" (did you mean "time"?)`) {
		t.Errorf("Unmarshal error = %v, want an unknown setting and a suggestion", err)
	}
	all := Settings{Time: "t", Keys: []string{"k"}, OnDuplicate: KeepLast, Partition: PartitionDay, Evolution: Strict}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s); err != nil || !reflect.DeepEqual(s, all) {
		t.Errorf("Unmarshal of marshaled settings = %+v, %v, want %+v", s, err, all)
	}
}

package stage_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/tables/stage"
)

// TestSpec checks that stages with equal Specs have the same key, so that results stay valid, and that an
// incomplete Spec is an error, not a panic.
func TestSpec(t *testing.T) {
	runs := 0
	countRuns := func(context.Context, *stage.Inputs) (int, error) { runs++; return runs, nil }
	results, err := stage.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	json := encode.JSON[int]()
	ancestor := stage.Define("above", countRuns, stage.Spec[int]{Version: "1"})
	spec := stage.Spec[int]{
		From: []stage.Any{ancestor}, Version: "1", Params: []any{3}, Cache: true, TTL: time.Hour, Codec: json, CodecName: "json",
	}
	for range 2 {
		if n, err := stage.Define("one", countRuns, spec).Run(t.Context(), results); err != nil || n != 2 {
			t.Errorf("Run = %d, %v, want the stored result 2 (%d functions ran)", n, err, runs)
		}
	}
	incompleteCodec := encode.ValueCodec[int]{Encode: json.Encode}
	for want, s := range map[string]*stage.Stage[int]{
		"no name":               stage.Define("", countRuns, spec),
		"no function":           stage.Define[int]("none", nil, spec),
		"Version":               stage.Define("one", countRuns, stage.Spec[int]{}),
		"has no Encode or no":   stage.Define("one", countRuns, stage.Spec[int]{Version: "1", Cache: true, Codec: incompleteCodec, CodecName: "half"}),
		"set Spec.Codec":        stage.Define("one", countRuns, stage.Spec[int]{Version: "1", Cache: true}),
		"the codec has no name": stage.Define("one", countRuns, stage.Spec[int]{Version: "1", Cache: true, Codec: json}),
	} {
		if _, err := s.Run(t.Context(), results); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run = %v, want an error with %q", err, want)
		}
	}
}

package stage_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables/stage"
)

// TestGoexit checks that if a stage ends its goroutine, all stages that need its result fail.
func TestGoexit(t *testing.T) {
	independent := stage.Spec[int]{Version: "1"}
	exits := stage.Define("exits", func(context.Context, *stage.Inputs) (int, error) { runtime.Goexit(); return 1, nil }, independent)
	dependent := func(name string) stage.Any {
		return stage.Define(name, func(_ context.Context, in *stage.Inputs) (int, error) {
			t.Errorf("stage %s ran although its ancestor failed", name)
			return exits.Of(in)
		}, stage.Spec[int]{Version: "1", From: []stage.Any{exits}})
	}
	last := stage.Define("last", returnZero, stage.Spec[int]{Version: "1", From: []stage.Any{dependent("one"), dependent("two")}})
	if _, err := last.Run(t.Context(), open(t, t.TempDir(), nil)); err == nil || !strings.Contains(err.Error(), "called runtime.Goexit") {
		t.Errorf("Run = %v, want an error about runtime.Goexit", err)
	}
}

// TestCauseOfCancellation checks that the reported error comes from the stage that failed, not from a stage that
// was canceled because of it.
func TestCauseOfCancellation(t *testing.T) {
	cause := errors.New("no luck")
	specAfter := func(stages ...stage.Any) stage.Spec[int] { return stage.Spec[int]{Version: "1", From: stages} }
	for range 50 {
		started := make(chan struct{})
		waitingStage := stage.Define("waits", func(ctx context.Context, _ *stage.Inputs) (int, error) {
			close(started)
			<-ctx.Done()
			return 0, ctx.Err()
		}, specAfter())
		failingStage := stage.Define("fails", func(context.Context, *stage.Inputs) (int, error) { <-started; return 0, cause }, specAfter())
		one := stage.Define("one", returnZero, specAfter(waitingStage))
		two := stage.Define("two", returnZero, specAfter(waitingStage, failingStage))
		_, err := stage.Define("last", returnZero, specAfter(one, two)).Run(t.Context(), open(t, t.TempDir(), nil))
		var e *stage.Error
		if !errors.Is(err, cause) || !errors.As(err, &e) || e.Stage != "fails" {
			t.Fatalf("Run = %v, want the error of the failed stage, not of a canceled one", err)
		}
	}
}

package stage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Action says what a run would do with a stage.
type Action string

// The possible actions.
const (
	Runs    Action = "runs"
	Kept    Action = "kept"    // its result is stored
	Skipped Action = "skipped" // its result is not stored, and no stage needs it
)

// Step is the part of a plan that concerns one stage.
type Step struct {
	Stage  string
	Key    string
	Action Action
	Why    string // why it runs: which inputs changed, by name, or that it never ran
}

// Plan returns what Run would do, ancestors first. It runs nothing.
func (s *Stage[T]) Plan(ctx context.Context, r *Results) ([]Step, error) {
	stages, err := r.keysOf(s.n)
	if err != nil {
		return nil, err
	}
	all, err := r.keep.list(ctx)
	if err != nil {
		return nil, err
	}
	byKey, newest := map[string]*Info{}, map[string]*Info{}
	for _, i := range all {
		byKey[i.Key] = i
		if n := newest[i.Stage]; n == nil || i.Made.After(n.Made) {
			newest[i.Stage] = i
		}
	}
	needed := map[*node]bool{s.n: true}
	steps := make([]Step, len(stages))
	for at, k := range slices.Backward(stages) {
		step := Step{Stage: k.name, Key: k.key, Action: Runs}
		i := k.counted(byKey[k.key])
		switch {
		case k.cache && i != nil && !i.expired(r.now()):
			step.Action = Kept
		case !needed[k.node]:
			step.Action = Skipped
		case !k.cache:
			step.Why = "it is not kept"
		case i != nil:
			step.Why = fmt.Sprintf("its result expired at %s", i.Expires.Format("2006-01-02 15:04:05Z07:00"))
		case newest[k.name] == nil:
			step.Why = "it never ran"
		default:
			step.Why = difference(newest[k.name].Parts, k.parts)
		}
		if step.Action == Runs {
			for _, a := range k.above {
				needed[a] = true
			}
		}
		steps[at] = step
	}
	return steps, nil
}

// difference names the parts of a key that are others than they were.
func difference(was, is map[string]string) string {
	var changes []string
	names := maps.Clone(was)
	maps.Copy(names, is)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, before := was[name]
		now, after := is[name]
		switch {
		case !before:
			changes = append(changes, name+" is new")
		case !after:
			changes = append(changes, name+" is gone")
		case old != now:
			changes = append(changes, name+" changed")
		}
	}
	if len(changes) == 0 {
		return "the order of files changed"
	}
	return strings.Join(changes, ", ")
}

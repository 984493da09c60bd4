package docs_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestAnswers checks that each figure in the sentences of docs/answers.md is in one of the pages that their sections
// link to. A figure is a number with its unit; a command is not checked.
func TestAnswers(t *testing.T) {
	text, err := os.ReadFile("docs/answers.md")
	if err != nil {
		t.Fatal(err)
	}
	figure := regexp.MustCompile(`[0-9][0-9.,]*[0-9]|[0-9]`)
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	sections := strings.Split(string(text), "\n## ")[1:]
	if len(sections) != 5 {
		t.Errorf("docs/answers.md has %d sections, want 5", len(sections))
	}
	for _, section := range sections {
		title, _, _ := strings.Cut(section, "\n")
		var sources, sentence []string
		for _, m := range link.FindAllStringSubmatch(section, -1) {
			source, err := os.ReadFile("docs/" + m[1])
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, figure.FindAllString(string(source), -1)...)
		}
		for line := range strings.Lines(section) {
			if quoted, ok := strings.CutPrefix(line, "> "); ok {
				sentence = append(sentence, strings.TrimSpace(quoted))
			}
		}
		spoken := regexp.MustCompile("`[^`]*`").ReplaceAllString(strings.Join(sentence, " "), "")
		spoken = strings.ReplaceAll(spoken, "p2p", "")
		if len(sentence) == 0 {
			t.Errorf("section %q has no sentence", title)
		}
		for _, f := range figure.FindAllString(spoken, -1) {
			if !slices.Contains(sources, f) {
				t.Errorf("section %q: none of the pages that it links to has the figure %s", title, f)
			}
		}
	}
}

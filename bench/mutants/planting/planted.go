package planting

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Planted is a set of mutants in copies of their packages' files.
type Planted struct {
	Mutants []*Mutant
	temp    string
}

// Plant numbers the first n candidates that do not overlap, or all if there are fewer. It writes copies of their
// packages, with these mutants, to the directory temp.
func Plant(temp string, candidates []*Mutant, n int) (*Planted, error) {
	p := &Planted{temp: temp}
	chosen := map[*Package][]*Mutant{}
	for _, m := range candidates {
		overlaps := slices.ContainsFunc(chosen[m.pkg], func(o *Mutant) bool { return m.start < o.end && o.start < m.end })
		if len(p.Mutants) < n && !overlaps {
			p.Mutants = append(p.Mutants, m)
			chosen[m.pkg] = append(chosen[m.pkg], m)
			m.Number = len(p.Mutants)
		}
	}
	return p, p.write()
}

// Overlay returns the path of the JSON file that lists the copies, for go's flag -overlay.
func (p *Planted) Overlay() string { return filepath.Join(p.temp, "overlay.json") }

// Apply selects the mutant that programs apply if they start after this call; 0 selects none. Apply writes the number to
// a file, not to an environment variable, because tests start programs without their environment.
func (p *Planted) Apply(number int) error {
	return os.WriteFile(filepath.Join(p.temp, "number"), []byte(strconv.Itoa(number)), 0o666)
}

var errorLine = regexp.MustCompile(`(?m)^(?:.*/)?([^/:\n]+\.go):(\d+)(?::\d+)?: `)

// Go runs a go command in dir with the mutants. It removes mutants that do not compile and retries the command.
func (p *Planted) Go(dir string, args ...string) error {
	for {
		cmd := exec.Command("go", slices.Insert(slices.Clone(args), 1, "-overlay", p.Overlay())...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		before := len(p.Mutants)
		wrong := errorLine.FindAllStringSubmatch(string(out), -1)
		p.Mutants = slices.DeleteFunc(p.Mutants, func(m *Mutant) bool {
			file, first, last := m.Place()
			return slices.ContainsFunc(wrong, func(e []string) bool {
				line, _ := strconv.Atoi(e[2])
				return e[1] == filepath.Base(file) && first <= line && line <= last
			})
		})
		if len(p.Mutants) == before {
			return fmt.Errorf("%w\n%s", err, out)
		}
		if err := p.write(); err != nil {
			return err
		}
	}
}

const helperSource = `package %s

import (
	partdOS "os"
	partdStrconv "strconv"
)

var partdMutant = func() int {
	content, _ := partdOS.ReadFile(%q)
	number, _ := partdStrconv.Atoi(string(content))
	return number
}()

func partdPick[T any](number int, value, mutated T) T {
	if partdMutant == number {
		return mutated
	}
	return value
}
`

func (p *Planted) write() (err error) {
	replace := map[string]string{}
	add := func(path string, content []byte) {
		replace[path] = filepath.Join(p.temp, fmt.Sprintf("%d.go", len(replace)))
		err = errors.Join(err, os.WriteFile(replace[path], content, 0o666))
	}
	byPackage := map[*Package][]*Mutant{}
	for _, m := range p.Mutants {
		byPackage[m.pkg] = append(byPackage[m.pkg], m)
	}
	for pkg, mutants := range byPackage {
		add(filepath.Join(pkg.dir, "partd_mutant.go"), fmt.Appendf(nil, helperSource, pkg.name, filepath.Join(p.temp, "number")))
		slices.SortFunc(mutants, func(a, b *Mutant) int { return int(b.start - a.start) }) // from the end, so that earlier offsets stay valid
		for path, content := range pkg.content {
			content = slices.Clone(content)
			for _, m := range mutants {
				if from, to := pkg.files.Position(m.start), pkg.files.Position(m.end); from.Filename == path {
					content = slices.Replace(content, from.Offset, to.Offset, []byte(strings.ReplaceAll(m.newText, numberMark, strconv.Itoa(m.Number)))...)
				}
			}
			add(path, content)
		}
	}
	list, _ := json.Marshal(map[string]any{"Replace": replace}) // encoding strings cannot fail
	return errors.Join(err, os.WriteFile(p.Overlay(), list, 0o666))
}

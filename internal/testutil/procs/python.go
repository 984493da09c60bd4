package procs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
)

// Interpreter is a running Python. Its scripts share imported modules, because importing costs more than most scripts.
type Interpreter struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

// runScripts reads lines from standard input. Each has a script and its arguments. The reply has the script's output
// and its exception.
const runScripts = `
import contextlib, io, json, sys, traceback
import %s
print("ready", flush=True)
for line in sys.stdin:
    script, *sys.argv[1:] = json.loads(line)
    output, exception = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(output):
            exec(script, {"__name__": "__main__"})
    except BaseException:
        exception = traceback.format_exc()
    print(json.dumps([output.getvalue(), exception]), flush=True)
`

// StartPython starts the interpreter with the given path, and imports modules. The interpreter ends when this process
// exits, because its input is then closed.
func StartPython(python string, modules ...string) (*Interpreter, error) {
	cmd := exec.Command(python, "-c", fmt.Sprintf(runScripts, strings.Join(modules, ", ")))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Interpreter{in: in, out: bufio.NewReader(out)}
	if _, err := p.out.ReadString('\n'); err != nil {
		return nil, errors.Join(err, cmd.Wait(), errors.New(stderr.String()))
	}
	return p, nil
}

// Run runs a script with arguments, and returns its output.
func (p *Interpreter) Run(script string, args ...string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.NewEncoder(p.in).Encode(append([]string{script}, args...)); err != nil {
		return "", err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return "", err
	}
	var reply [2]string
	if err := json.Unmarshal(line, &reply); err != nil {
		return "", err
	}
	if reply[1] != "" {
		return reply[0], errors.New(reply[1])
	}
	return reply[0], nil
}

package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Mode is a way to show progress.
type Mode string

// The ways to show progress.
const (
	Terminal Mode = "terminal" // a block of lines that changes in place
	Plain    Mode = "plain"    // a line when a task ends
	JSON     Mode = "json"     // one event a line
	None     Mode = "none"
)

// refresh is how often a terminal is drawn and a JSON update is written.
const refresh = 100 * time.Millisecond

// Display shows tasks on a stream until it is closed.
type Display struct {
	mode  Mode
	width int
	now   func() time.Time

	mu     sync.Mutex
	out    io.Writer
	tasks  []*task
	drawn  int // lines on the terminal that the next drawing replaces
	stop   chan struct{}
	closed sync.WaitGroup
}

type task struct {
	counter
	display *Display
	started time.Time
	shown   int64
}

// New returns a display on out. On a terminal lines are cut at width columns.
func New(out io.Writer, mode Mode, width int) *Display {
	d := &Display{mode: mode, width: width, out: out, now: time.Now, stop: make(chan struct{})}
	if mode == Terminal || mode == JSON {
		d.closed.Go(d.tick)
	}
	return d
}

// Close draws the last state and ends the display.
func (d *Display) Close() {
	close(d.stop)
	d.closed.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mode == Terminal {
		d.clear()
	}
}

// Writer returns a stream whose lines appear above the changing lines; logs go there.
func (d *Display) Writer() io.Writer { return lineWriter{d} }

type lineWriter struct{ d *Display }

func (w lineWriter) Write(p []byte) (int, error) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.d.clear()
	n, err := w.d.out.Write(p)
	w.d.draw()
	return n, err
}

// Start implements [Reporter].
func (d *Display) Start(name string, total int64, unit Unit) Task {
	t := &task{display: d, started: d.now(), counter: counter{name: name, unit: unit}}
	t.total.Store(total)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tasks = append(d.tasks, t)
	d.event("start", t, nil)
	return t
}

// Note implements [Reporter].
func (d *Display) Note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch d.mode {
	case JSON:
		d.encode(event{Event: "note", Text: text})
	case Plain, Terminal:
		d.clear()
		fmt.Fprintln(d.out, text)
		d.draw()
	}
}

// Done ends the task.
func (t *task) Done(err error) {
	d := t.display
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, other := range d.tasks {
		if other == t {
			d.tasks = append(d.tasks[:i], d.tasks[i+1:]...)
			break
		}
	}
	switch d.mode {
	case JSON:
		d.event("done", t, err)
	case Plain, Terminal:
		d.clear()
		if err == nil {
			fmt.Fprintln(d.out, t.summary(d.now()))
		}
		d.draw()
	}
}

// event is one line of the JSON form.
type event struct {
	Event   string  `json:"event"` // start, progress, done, note
	Task    string  `json:"task,omitempty"`
	Unit    Unit    `json:"unit,omitempty"`
	Done    int64   `json:"done,omitempty"`
	Total   int64   `json:"total,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Error   string  `json:"error,omitempty"`
	Text    string  `json:"text,omitempty"`
}

func (d *Display) event(kind string, t *task, err error) {
	if d.mode != JSON {
		return
	}
	e := event{Event: kind, Task: t.name, Unit: t.unit, Done: t.done.Load(), Total: t.total.Load(),
		Seconds: d.now().Sub(t.started).Round(time.Millisecond).Seconds()}
	if err != nil {
		e.Error = err.Error()
	}
	d.encode(e)
}

func (d *Display) encode(e event) {
	line, err := json.Marshal(e)
	if err != nil { // every field is a string or a number
		panic(err)
	}
	fmt.Fprintf(d.out, "%s\n", line)
}

func (d *Display) tick() {
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		select {
		case <-d.stop:
			return
		case <-ticker.C:
		}
		d.mu.Lock()
		if d.mode == Terminal {
			d.clear()
			d.draw()
		}
		for _, t := range d.tasks {
			if done := t.done.Load(); done != t.shown && d.mode == JSON {
				t.shown = done
				d.event("progress", t, nil)
			}
		}
		d.mu.Unlock()
	}
}

// clear takes the changing lines off the terminal.
func (d *Display) clear() {
	if d.mode != Terminal || d.drawn == 0 {
		return
	}
	fmt.Fprintf(d.out, "\x1b[%dA\x1b[J", d.drawn)
	d.drawn = 0
}

func (d *Display) draw() {
	if d.mode != Terminal {
		return
	}
	now := d.now()
	for _, t := range d.tasks {
		fmt.Fprintln(d.out, t.line(now, d.width))
	}
	d.drawn = len(d.tasks)
}

// line is how a task under way looks on a terminal of the given width.
func (t *task) line(now time.Time, width int) string {
	done, total := t.done.Load(), t.total.Load()
	text := fmt.Sprintf("%s  %s", t.name, t.amount(done))
	if total > 0 {
		const cells = 24
		filled := int(min(cells, cells*done/total))
		text = fmt.Sprintf("%s  [%s%s] %3d%%  %s of %s", t.name, strings.Repeat("=", filled), strings.Repeat(" ", cells-filled),
			min(100, 100*done/total), t.amount(done), t.amount(total))
	}
	if rate := t.rate(now); rate != "" {
		text += "  " + rate
	}
	if width > 0 && len(text) >= width {
		text = text[:width-1]
	}
	return text
}

func (t *task) summary(now time.Time) string {
	took := now.Sub(t.started)
	text := t.name
	if done := t.done.Load(); done > 0 {
		text += ": " + t.amount(done)
	}
	if took >= time.Second {
		text += fmt.Sprintf(" in %.1f s", took.Seconds())
		if rate := t.rate(now); rate != "" {
			text += ", " + rate
		}
	}
	return text
}

func (t *task) rate(now time.Time) string {
	seconds := now.Sub(t.started).Seconds()
	if t.unit != Bytes || seconds < 0.5 || t.done.Load() == 0 {
		return ""
	}
	return FormatBytes(int64(float64(t.done.Load())/seconds)) + "/s"
}

func (t *task) amount(n int64) string {
	if t.unit == Bytes {
		return FormatBytes(n)
	}
	return fmt.Sprint(n)
}

// FormatBytes writes a size the way people read it: 512 B, 1.5 KiB, 230 MiB.
func FormatBytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 999.5 && unit < 5 {
		value /= 1024
		unit++
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[unit])
	}
	return fmt.Sprintf("%.0f %ciB", value, "KMGTPE"[unit])
}

// FormatCount writes how many there are of something: 1 layer, 2 layers.
func FormatCount(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

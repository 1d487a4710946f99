package progress

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 10 << 20: "10 MiB",
		1023 << 20: "1.0 GiB", 560 << 20: "560 MiB", 3 << 40: "3.0 TiB", 1<<63 - 1: "8.0 EiB"} {
		if got := FormatBytes(n); got != want {
			t.Errorf("FormatBytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestFormatCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 layers", 1: "1 layer", 2: "2 layers"} {
		if got := FormatCount(n, "layer"); got != want {
			t.Errorf("FormatCount(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestPlainShowsFinishedWorkAndNotes(t *testing.T) {
	var out bytes.Buffer
	d := New(&out, Plain, 0)
	clock := time.Unix(0, 0)
	d.now = func() time.Time { return clock }
	task := d.Start("pulling debian:12", 4<<20, Bytes)
	if _, err := io.Copy(io.Discard, Reader(strings.NewReader(strings.Repeat("x", 4<<20)), task)); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(2 * time.Second)
	task.Done(nil)
	d.Note("nothing changed")
	d.Close()
	want := "pulling debian:12: 4.0 MiB in 2.0 s, 2.0 MiB/s\nnothing changed\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestJSONIsOneEventALine(t *testing.T) {
	var out bytes.Buffer
	d := New(&out, JSON, 0)
	task := d.Start("scanning", 0, Items)
	task.Add(3)
	task.Done(errors.New("no space left"))
	d.Close()
	var kinds []string
	for line := range strings.Lines(out.String()) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		kinds = append(kinds, e.Event)
		if e.Event == "done" && (e.Error != "no space left" || e.Done != 3) {
			t.Errorf("last event is %+v", e)
		}
	}
	if kinds[0] != "start" || kinds[len(kinds)-1] != "done" {
		t.Errorf("events are %v", kinds)
	}
}

func TestTerminalLinesFitAndLogsStandAbove(t *testing.T) {
	var out bytes.Buffer
	d := New(&out, Terminal, 40)
	task := d.Start(strings.Repeat("long ", 20), 100, Items)
	task.Add(50)
	io.WriteString(d.Writer(), "a log line\n")
	d.Close()
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line[strings.LastIndexByte(line, 'J')+1:], "\n")
		if len(line) > 40 {
			t.Errorf("line of %d columns: %q", len(line), line)
		}
	}
	if !strings.Contains(out.String(), "a log line\n") {
		t.Error("the log line is gone")
	}
}

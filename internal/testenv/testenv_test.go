package testenv

import "testing"

func TestScanMap(t *testing.T) {
	var a, b, c uint64
	if err := scanMap("         0          0 4294967295\n", &a, &b, &c); err != nil || a != 0 || b != 0 || c != 1<<32-1 {
		t.Errorf("%d %d %d, %v", a, b, c, err)
	}
	if scanMap("0 1000 1\n1 100000 65536\n", &a, &b, &c) == nil {
		t.Error("two lines are no full map")
	}
}

func TestNeeds(t *testing.T) {
	NeedPrograms(t, "sh", "true")
	if got := Run(t, "echo", "hello"); got != "hello\n" {
		t.Errorf("%q", got)
	}
	NeedFile(t, "/proc/self/status")
}

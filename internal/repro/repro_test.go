package repro

import (
	"regexp"
	"testing"
	"time"
)

func TestFixedSourceRepeatsItself(t *testing.T) {
	a := New(time.Unix(1700000000, 5), "tree", "description")
	b := New(time.Unix(1700000000, 0), "tree", "description")
	if a.UUID("root") != b.UUID("root") || a.Uint32("disk") != b.Uint32("disk") || a.Salt("root", 16) != b.Salt("root", 16) {
		t.Error("the same inputs gave different identifiers")
	}
	if a.UUID("root") == a.UUID("esp") {
		t.Error("two labels share one identifier")
	}
	if a.UUID("root") == New(a.Epoch, "treed", "escription").UUID("root") {
		t.Error("inputs run into each other")
	}
	if a.UUID("root") == a.With("type oem").UUID("root") {
		t.Error("a further input changed nothing")
	}
}

func TestUUIDForm(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if id := New(time.Unix(0, 0)).UUID("x"); !form.MatchString(id) {
		t.Errorf("UUID %q does not have the form of RFC 9562 version 8", id)
	}
}

func TestFromEnvironment(t *testing.T) {
	t.Setenv(EpochVariable, "1700000000")
	s, err := FromEnvironment("a")
	if err != nil || !s.Fixed || s.Epoch.Unix() != 1700000000 {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, bad := range []string{"yesterday", "-1", "1.5"} {
		t.Setenv(EpochVariable, bad)
		if _, err := FromEnvironment(); err == nil {
			t.Errorf("%s=%s was taken", EpochVariable, bad)
		}
	}
	t.Setenv(EpochVariable, "")
	one, _ := FromEnvironment()
	two, _ := FromEnvironment()
	if one.Fixed || one.UUID("x") == two.UUID("x") {
		t.Error("two builds without an epoch share their identifiers")
	}
}

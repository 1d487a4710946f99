package layers

import (
	"archive/tar"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNumbersOfHeaders(t *testing.T) {
	for text, want := range map[string]int64{
		"0000644\x00":                                      0o644,
		"   644 \x00":                                      0o644,
		"\x00\x00\x00\x00\x00\x00\x00\x00":                 0,
		"77777777777 ":                                     0o77777777777,
		"\x80\x00\x00\x00\x00\x00\x00\x01\x00":             256,
		"\x80\x00\x00\x02\x40\x00\x00\x00":                 9 << 30,
		"\xff\xff\xff\xff\xff\xff\xff\xfb":                 -5,
		"\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff": math.MaxInt64,
	} {
		var p fieldParser
		if got := p.number([]byte(text)); got != want || p.err != nil {
			t.Errorf("%q is read as %d, %v; want %d", text, got, p.err, want)
		}
	}
	for _, text := range []string{"0000649\x00", "abc", "-5", "0x10", "7 7", "\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00", "7777777777777777777777777"} {
		var p fieldParser
		if got := p.number([]byte(text)); p.err == nil {
			t.Errorf("%q is read as %d", text, got)
		}
	}
}

func TestTimesOfPAX(t *testing.T) {
	for text, want := range map[string]Timespec{
		"0": {}, "12": {12, 0}, "1.5": {1, 500_000_000}, "1.000000001": {1, 1}, "1.1234567899": {1, 123_456_789},
		"-1": {-1, 0}, "-0.5": {-1, 500_000_000}, "-1.25": {-2, 750_000_000}, "253402300800": {253402300800, 0},
	} {
		if got, err := parsePAXTime(text); err != nil || got != want {
			t.Errorf("%s is read as %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "1.x", "1.2.3", "99999999999999999999"} {
		if got, err := parsePAXTime(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func TestRecordsOfPAX(t *testing.T) {
	got, err := parsePAX("10 a=1234\n7 b=\x00\n\n14 c=d=e\x00\x00\xff\n\n\n5 d=\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "1234", "b": "\x00\n", "c": "d=e\x00\x00\xff\n\n", "d": ""}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, text := range []string{"x", "5 a=1", "3 a=1\n", "99 a=1\n", "6 a=12\n", "4 a\n", "5 =1\n", "-6 a=1\n", "0 \n", "16 GNU.sparse.numbytes=1\n"} {
		if got, err := parsePAX(text); err == nil {
			t.Errorf("%q is read as %q", text, got)
		}
	}
}

func TestLabelOfGNUTar(t *testing.T) {
	h := file("x")
	h.PAXRecords = map[string]string{paxSELinux: "system_u:object_r:etc_t:s0"}
	l := mustRead(t, tarOf(t, []*tar.Header{h}, nil))
	if label, _ := l.Entries[0].Node.Xattr(xattrSELinux); label != "system_u:object_r:etc_t:s0" {
		t.Errorf("the label is %q", label)
	}
}

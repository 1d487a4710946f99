package description

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

func TestPositions(t *testing.T) {
	text := "<?xml version=\"1.0\"?>\r\n" +
		"<a  one='1'\n" +
		"\ttwo=\"é>'\" three = '\"/>' >\n" +
		"  é<b xmlns:x='u' x:y=\"1\"/><c><!-- -- -->\n" // a comment can't hold --
	if _, err := parseXML("f", []byte(text)); err == nil {
		t.Error("-- inside of a comment is accepted")
	}
	text = strings.Replace(text, " -- ", " ", 1) + "</c></a>\n"
	root, err := parseXML("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	root.walk(func(e *element) {
		got = append(got, fmt.Sprintf("<%s> %s", e.name, e.pos))
		for _, a := range e.attrs {
			got = append(got, fmt.Sprintf("%s=%s %s", a.name, a.value, a.pos))
		}
	})
	want := []string{
		"<a> f:2:1", "one=1 f:2:5", "two=é>' f:3:2", "three=\"/> f:3:12",
		"<b> f:4:4", "xmlns:x=u f:4:7", "x:y=1 f:4:19", "<c> f:4:28",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("positions (-want +got):\n%s", diff)
	}
}

func TestParseXMLRefuses(t *testing.T) {
	deep := strings.Repeat("<a>", maxDepth+1) + strings.Repeat("</a>", maxDepth+1)
	tests := map[string]string{
		"":                            "holds no XML element",
		"<!-- only -->":               "holds no XML element",
		"text":                        "text outside",
		"<a/>text":                    "text outside",
		"<a/><b/>":                    "second top element",
		"<a></b>":                     "closes nothing",
		"</a>":                        "closes nothing",
		"<a>":                         "is not closed",
		"<a b=\"1\" b=\"2\"/>":        "given twice",
		"<a>&nbsp;</a>":               "entity",
		"<!DOCTYPE a><a/>":            "document type declaration",
		"<x:a/>":                      "prefix x is not declared",
		"<a x:b=''/>":                 "prefix x is not declared",
		"<a b='<'/>":                  "unescaped <",
		"<?xml encoding='koi8'?><a/>": "encoding \"koi8\" is not supported",
		"<a>\xff</a>":                 "not valid UTF-8",
		deep:                          "nested more than",
		"<a>\x01</a>":                 "illegal character",
		strings.Repeat("<a/>", 20):    "second top element",
	}
	for input, want := range tests {
		data, err := toUTF8("f", []byte(input))
		if err == nil {
			_, err = parseXML("f", data)
		}
		var errs Errors
		if !errors.As(err, &errs) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v, want %q", input, err, want)
		}
	}
	if _, _, err := parse("f", make([]byte, maxFileSize+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a huge file: %v", err)
	}
	many := "<a>" + strings.Repeat("<b/>", maxNodes) + "</a>"
	if _, err := parseXML("f", []byte(many)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a file of many elements: %v", err)
	}
}

func TestEncodings(t *testing.T) {
	wide := func(order binary.AppendByteOrder, text string) []byte {
		var b []byte
		for _, u := range utf16.Encode([]rune(text)) {
			b = order.AppendUint16(b, u)
		}
		return b
	}
	const text = "<a>Schäfer \U0001f411</a>"
	for name, data := range map[string][]byte{
		"latin 1":                 []byte("<?xml version='1.0' encoding='ISO-8859-1'?><a>Sch\xe4fer</a>"),
		"UTF-8":                   []byte("\xef\xbb\xbf" + text),
		"UTF-16, mark":            wide(binary.LittleEndian, "\ufeff"+text),
		"UTF-16, mark, big":       wide(binary.BigEndian, "\ufeff"+text),
		"UTF-16, declared":        wide(binary.LittleEndian, "\ufeff<?xml version='1.0' encoding='UTF-16'?>"+text),
		"UTF-16 without its mark": wide(binary.BigEndian, text),
	} {
		root, format, err := parse("f", data)
		if err != nil || format != FormatXML {
			t.Errorf("%s: %s, %v", name, format, err)
			continue
		}
		if got := root.text(); !strings.HasPrefix(got, "Schäfer") {
			t.Errorf("%s: text %q", name, got)
		}
	}
	for name, data := range map[string][]byte{
		"UTF-16 declared, UTF-8 written": []byte("<?xml version='1.0' encoding='UTF-16'?><a/>"),
		"half a character":               []byte("\xff\xfe<\x00a"),
	} {
		if _, _, err := parse("f", data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestWriteKeepsValues(t *testing.T) {
	value := "a<b>&\"'\r\n\t c"
	root := &element{name: "image"}
	root.setAttr("schemaversion", "7.6", Position{})
	root.setAttr("name", value, Position{})
	child := &element{name: "author"}
	child.setText("x & <y> \r z")
	root.children = []node{{elem: child}, {comment: " kept "}}
	again, err := parseXML("f", (&Document{root: root}).XML())
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := again.attr("name"); got != value {
		t.Errorf("attribute %q, want %q", got, value)
	}
	if got := again.child("author").text(); got != child.text() {
		t.Errorf("text %q, want %q", got, child.text())
	}
}

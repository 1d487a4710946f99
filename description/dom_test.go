package description

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPositions(t *testing.T) {
	text := "<?xml version=\"1.0\"?>\r\n" +
		"<a  one='1'\n" +
		"\ttwo=\"é>'\" three = '\"/>' >\n" +
		"  é<b x:y=\"1\"/><c><!-- -- -->\n" // a comment can't hold --
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
		"<b> f:4:4", "x:y=1 f:4:7", "<c> f:4:16",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("positions (-want +got):\n%s", diff)
	}
}

func TestParseXMLRefuses(t *testing.T) {
	deep := strings.Repeat("<a>", maxDepth+1) + strings.Repeat("</a>", maxDepth+1)
	tests := map[string]string{
		"":                         "holds no XML element",
		"<!-- only -->":            "holds no XML element",
		"text":                     "text outside",
		"<a/>text":                 "text outside",
		"<a/><b/>":                 "second top element",
		"<a></b>":                  "closes nothing",
		"</a>":                     "closes nothing",
		"<a>":                      "is not closed",
		"<a b=\"1\" b=\"2\"/>":     "given twice",
		"<a>&nbsp;</a>":            "entity",
		"<!DOCTYPE a><a/>":         "document type declaration",
		"<a b='<'/>":               "unescaped <",
		"<?xml encoding='koi8'?>":  "encoding \"koi8\" is not supported",
		"<a>\xff</a>":              "not valid UTF-8",
		deep:                       "nested more than",
		"<a>\x01</a>":              "illegal character",
		strings.Repeat("<a/>", 20): "second top element",
	}
	for input, want := range tests {
		_, err := parseXML("f", []byte(input))
		var errs Errors
		if !errors.As(err, &errs) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v, want %q", input, err, want)
		}
	}
	if _, err := parseXML("f", make([]byte, maxFileSize+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a huge file: %v", err)
	}
	many := "<a>" + strings.Repeat("<b/>", maxNodes) + "</a>"
	if _, err := parseXML("f", []byte(many)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a file of many elements: %v", err)
	}
}

func TestLatin1(t *testing.T) {
	root, err := parseXML("f", []byte("<?xml version='1.0' encoding='ISO-8859-1'?><a>Sch\xe4fer</a>"))
	if err != nil {
		t.Fatal(err)
	}
	if got := root.text(); got != "Schäfer" {
		t.Errorf("text %q", got)
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

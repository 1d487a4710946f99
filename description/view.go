package description

import (
	"bytes"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"
)

// The resolved model for people and for programs: every setting under the name
// that the description has for it, with its default filled in, without what is
// empty and without secrets.

// hidden stands where the view leaves a secret out.
const hidden = "(hidden)"

// secretFields are fields of the model that hold passwords or passphrases.
var secretFields = []string{"Password", "LUKS"}

// View writes the resolved model: as JSON, as YAML, or, where the format is
// empty, as a text for people. Passwords and passphrases are hidden.
func (img *Image) View(f Format) ([]byte, error) {
	top := viewOf(reflect.ValueOf(*img))
	if f != "" {
		return encodeMarkup(top, f)
	}
	var b bytes.Buffer
	top.writeText(&b, "")
	return b.Bytes(), nil
}

// viewOf returns a value of the model, or nil where it is empty.
func viewOf(v reflect.Value) *markupNode {
	literal := func(s string) *markupNode { return &markupNode{kind: markupScalar, scalar: s, literal: true} }
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return viewOf(v.Elem())
	case reflect.String:
		if v.String() == "" {
			return nil
		}
		return &markupNode{kind: markupScalar, scalar: v.String()}
	case reflect.Bool:
		if !v.Bool() {
			return nil
		}
		return literal("true")
	case reflect.Int, reflect.Int64:
		if v.Int() == 0 {
			return nil
		}
		return literal(strconv.FormatInt(v.Int(), 10))
	case reflect.Uint8: // Tristate
		if t, ok := v.Interface().(Tristate); ok && t != Unset {
			return literal(t.String())
		}
	case reflect.Slice:
		list := &markupNode{kind: markupList}
		for i := range v.Len() {
			if item := viewOf(v.Index(i)); item != nil {
				list.list = append(list.list, item)
			}
		}
		if len(list.list) > 0 {
			return list
		}
	case reflect.Struct:
		return viewOfStruct(v)
	}
	return nil
}

func viewOfStruct(v reflect.Value) *markupNode {
	switch value := v.Interface().(type) {
	case Group:
		name := value.Name
		if value.GID >= 0 {
			name += ":" + strconv.Itoa(value.GID)
		}
		return &markupNode{kind: markupScalar, scalar: name}
	case Package:
		if !value.BootInclude && !value.BootDelete {
			return &markupNode{kind: markupScalar, scalar: value.Name}
		}
	}
	n := &markupNode{kind: markupMap}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Anonymous || contains([]string{"Warnings", "FS", "SourcePos", "PlusRecommended"}, f.Name) {
			continue
		}
		value := viewOf(v.Field(i))
		switch {
		case contains(secretFields, f.Name) && !v.Field(i).IsZero():
			value = &markupNode{kind: markupScalar, scalar: hidden}
		case f.Name == "Source" && value != nil:
			value.scalar = withoutCredentials(value.scalar)
		case (f.Name == "UID" || f.Name == "GID") && v.Field(i).Int() < 0:
			value = nil
		}
		if value != nil {
			n.pairs = append(n.pairs, markupPair{key: viewName(f), value: value})
		}
	}
	if len(n.pairs) == 0 {
		return nil
	}
	return n
}

// elementNames are the elements that fields of the model stand for, where the
// names differ.
var elementNames = map[string]string{
	"OEM": "oemconfig", "SystemDisk": "systemdisk", "Vagrant": "vagrantconfig", "Container": "containerconfig", "InnerContainers": "containers",
	"SchemaVersion": "schemaversion", "DisplayName": "displayname", "PackageManager": "packagemanager", "ReleaseVersion": "release-version",
	"BootsplashTheme": "bootsplash-theme", "BootloaderTheme": "bootloader-theme", "ShowLicense": "showlicense", "Locales": "locale",
	"InstallMedia": "installmedia", "SecureLinux": "securelinux", "LUKSFormatOptions": "luksformat", "FormatOptions": "formatoptions",
}

// viewName returns the name of a field: that of the attribute or element it is
// read from, or its own in small letters.
func viewName(f reflect.StructField) string {
	if tag, ok := f.Tag.Lookup("kiwi"); ok {
		name, _, _ := strings.Cut(tag, ",")
		return name
	}
	if name := elementNames[f.Name]; name != "" {
		return name
	}
	var b strings.Builder
	runes := []rune(f.Name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// textWidth is where lists of words are broken, in characters.
const textWidth = 100

// writeText writes a mapping for people: one setting a line, lists of words
// broken at the end of the line.
func (n *markupNode) writeText(b *bytes.Buffer, indent string) {
	for _, p := range n.pairs {
		switch v := p.value; {
		case v.kind == markupScalar:
			fmt.Fprintf(b, "%s%s: %s\n", indent, p.key, oneLine(v.scalar))
		case v.kind == markupList && v.allScalars():
			fmt.Fprintf(b, "%s%s:\n", indent, p.key)
			v.writeWords(b, indent+"  ")
		case v.kind == markupList:
			fmt.Fprintf(b, "%s%s:\n", indent, p.key)
			for _, item := range v.list {
				item.writeItem(b, indent+"  ")
			}
		default:
			fmt.Fprintf(b, "%s%s:\n", indent, p.key)
			v.writeText(b, indent+"  ")
		}
	}
}

// writeItem writes one item of a list behind a dash.
func (n *markupNode) writeItem(b *bytes.Buffer, indent string) {
	if n.kind == markupScalar {
		fmt.Fprintf(b, "%s- %s\n", indent, oneLine(n.scalar))
		return
	}
	var inner bytes.Buffer
	n.writeText(&inner, indent+"  ")
	text := inner.String()
	if len(text) > len(indent)+2 {
		b.WriteString(indent + "- " + text[len(indent)+2:])
	}
}

func (n *markupNode) writeWords(b *bytes.Buffer, indent string) {
	line := indent
	for i, item := range n.list {
		word := oneLine(item.scalar)
		if i+1 < len(n.list) {
			word += ","
		}
		if line != indent && len(line)+1+len(word) > textWidth {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
}

// oneLine returns a text as it can stand on one line.
func oneLine(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return strconv.Quote(s)
	}
	return s
}

// A Finding is an Error as programs read it.
type Finding struct {
	Severity string `json:"severity"` // error or warning
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Text     string `json:"text"`
	Hint     string `json:"hint,omitempty"`
	Check    string `json:"check,omitempty"`
}

// Findings returns errors and warnings for programs, errors first.
func Findings(errs, warnings Errors) []Finding {
	list := []Finding{}
	for severity, found := range []Errors{errs, warnings} {
		for _, e := range found {
			list = append(list, Finding{
				Severity: []string{"error", "warning"}[severity], File: e.Pos.File, Line: e.Pos.Line, Column: e.Pos.Column,
				Text: e.Text, Hint: e.Hint, Check: e.Check,
			})
		}
	}
	return list
}

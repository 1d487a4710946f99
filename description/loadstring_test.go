package description

import (
	"testing"
	"testing/fstest"
)

// loadString loads a description from a text.
func loadString(t *testing.T, text string) *Document {
	t.Helper()
	doc, err := loadText(text)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func loadText(text string) (*Document, error) {
	return LoadFS(fstest.MapFS{"config.xml": {Data: []byte(text)}}, "", LoadOptions{})
}

package description

import "testing"

// BenchmarkLoad loads and resolves a description that uses most of the
// language.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		doc, err := Load("testdata/resolve/everything.kiwi", LoadOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := doc.Resolve(Selection{Arch: "x86_64", Profiles: []string{"disk"}}); err != nil {
			b.Fatal(err)
		}
	}
}

package filetree

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func (s *site) preview(job remora.Job, from *dirWriter) remora.Preview {
	s.t.Helper()
	said, err := s.tree.Preview(s.t.Context(), job, from.fs())
	require.NoError(s.t, err)
	return said
}

func TestAPreviewNamesWhatARestoreWouldChange(t *testing.T) {
	s := filled(t, func(c *Config) { c.Exclude = []string{"*.tmp"} })
	s.write("receipts/touched", "the same")
	s.write("receipts/turned", "a file")
	s.write("receipts/private", "x")
	s.write("receipts/same size", "one")
	s.write("receipts/unseen", "one")
	part := s.capture()
	require.Equal(t, remora.Preview{
		Directories: []remora.DirectoryPreview{{Name: "receipts", Now: 11, Then: 11}, {Name: "deep/alerts", Now: 1, Then: 1}},
		Compared:    remora.Summary{Objects: 2, Entries: 12},
	}, s.preview(job1, part), "nothing differs, and no content was read")

	s.damage()
	later := time.Now().Add(time.Hour)
	require.NoError(t, os.Chtimes(s.path("receipts/touched"), later, later))
	s.write("receipts/same size", "two")
	require.NoError(t, os.Chtimes(s.path("receipts/same size"), later, later))
	info, err := os.Stat(s.path("receipts/unseen"))
	require.NoError(t, err)
	s.write("receipts/unseen", "two")
	require.NoError(t, os.Chtimes(s.path("receipts/unseen"), info.ModTime(), info.ModTime()))
	s.remove("receipts/turned")
	s.write("receipts/turned/into/a folder", "x")
	require.NoError(t, os.Chmod(s.path("receipts/private"), 0o600))
	require.NoError(t, os.Remove(s.path("receipts/dangling")))
	require.NoError(t, os.Symlink("/somewhere/else", s.path("receipts/dangling")))
	s.write("receipts/stays.tmp", "excluded")
	before := s.look()
	said := s.preview(job1, part)
	require.Equal(t, before, s.look(), "it only reads")
	require.Equal(t, []string{
		"+ deep/alerts/a.json",
		"+ receipts/2024", "+ receipts/2024/link", "+ receipts/2024/one.pdf",
		"~ receipts/dangling", "- receipts/new", "~ receipts/private", "~ receipts/same size",
	}, said.Names[:8])
	require.ElementsMatch(t, []string{"+ receipts/turned", "- receipts/turned"}, said.Names[8:10])
	require.Equal(t, []string{"- receipts/turned/into", "- receipts/turned/into/a folder", "~ receipts/two with space.pdf"}, said.Names[10:])
	require.Equal(t, []remora.DirectoryPreview{
		{Name: "receipts", Now: 11, Then: 11, Added: 4, Removed: 4, Changed: 4}, {Name: "deep/alerts", Then: 1, Added: 1},
	}, said.Directories)
	require.EqualValues(t, len("the same"), said.Compared.Bytes, "of the content, what differs in its time alone is read")
	require.Zero(t, said.Unnamed())
	s.noWork()

	said = s.preview(only("receipts/2024", "deep/alerts/a.json"), part)
	require.Equal(t, []string{"+ deep/alerts/a.json", "+ receipts/2024", "+ receipts/2024/link", "+ receipts/2024/one.pdf"}, said.Names)
	_, err = s.tree.Preview(t.Context(), only("receipts/new"), part.fs())
	requireProblem(t, err, remora.NotFound, "receipts/new")
}

func TestAPreviewOfWhatIsNotThereAndOfMuch(t *testing.T) {
	s := filled(t)
	part := s.capture()
	require.NoError(t, os.Rename(s.root, s.root+" away"))
	said := s.preview(job1, part)
	require.Equal(t, remora.DirectoryPreview{Name: "receipts", Then: 6, Added: 6}, said.Directories[0])
	require.NoError(t, os.Rename(s.root+" away", s.root))
	s.remove("receipts")
	require.NoError(t, os.Symlink("deep", s.path("receipts")))
	said = s.preview(job1, part)
	require.Equal(t, remora.DirectoryPreview{Name: "receipts", Then: 6, Added: 6}, said.Directories[0])
	for i := range remora.MaxPreviewed + 20 {
		s.write(fmt.Sprintf("deep/alerts/%d", i), "x")
	}
	said = s.preview(job1, part)
	require.Len(t, said.Names, remora.MaxPreviewed)
	require.EqualValues(t, 26, said.Unnamed())
	require.False(t, strings.Contains(strings.Join(said.Names, ""), filepath.Dir(s.root)))
}

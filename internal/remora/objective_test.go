package remora

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestObjectiveFollowsTheMostFrequentSchedule(t *testing.T) {
	daily := Schedule{Timing: Timing{Cron: "30 2 * * *", Period: 24 * time.Hour}, Deadline: 6 * time.Hour}
	hourly := Schedule{Timing: Timing{Every: time.Hour}, Deadline: 30 * time.Minute}
	for name, c := range map[string]struct {
		chosen    time.Duration
		schedules []Schedule
		want      time.Duration
	}{
		"nothing":                        {0, nil, 0},
		"chosen without schedule":        {3 * time.Hour, nil, 3 * time.Hour},
		"chosen":                         {3 * time.Hour, []Schedule{daily}, 3 * time.Hour},
		"one slot may fail, one be late": {0, []Schedule{daily}, 54 * time.Hour},
		"the shorter counts":             {0, []Schedule{daily, hourly}, 150 * time.Minute},
		"in any order":                   {0, []Schedule{hourly, daily}, 150 * time.Minute},
		"a period that nobody knows":     {0, []Schedule{{Timing: Timing{Cron: "30 2 * * *"}, Deadline: time.Hour}}, 0},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, Objective(c.chosen, c.schedules)) })
	}
}

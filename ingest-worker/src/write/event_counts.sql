-- Adds this batch's counts; rows come sorted by key. $5 holds sixty minutes per row, one after the other. The sum is
-- written out: array_agg over unnest takes twice as long.
INSERT INTO event_counts AS c (hour, series_id, shard, total, minutes)
SELECT b.hour, b.series_id, $1::smallint, b.total, ($5::integer[])[b.position * 60 - 59 : b.position * 60]
FROM unnest($2::timestamptz[], $3::integer[], $4::bigint[]) WITH ORDINALITY AS b (hour, series_id, total, position)
ORDER BY b.position
ON CONFLICT (hour, series_id, shard) DO UPDATE SET
    total = c.total + excluded.total,
    minutes = ARRAY[
        c.minutes[1] + excluded.minutes[1], c.minutes[2] + excluded.minutes[2], c.minutes[3] + excluded.minutes[3], c.minutes[4] + excluded.minutes[4],
        c.minutes[5] + excluded.minutes[5], c.minutes[6] + excluded.minutes[6], c.minutes[7] + excluded.minutes[7], c.minutes[8] + excluded.minutes[8],
        c.minutes[9] + excluded.minutes[9], c.minutes[10] + excluded.minutes[10], c.minutes[11] + excluded.minutes[11], c.minutes[12] + excluded.minutes[12],
        c.minutes[13] + excluded.minutes[13], c.minutes[14] + excluded.minutes[14], c.minutes[15] + excluded.minutes[15], c.minutes[16] + excluded.minutes[16],
        c.minutes[17] + excluded.minutes[17], c.minutes[18] + excluded.minutes[18], c.minutes[19] + excluded.minutes[19], c.minutes[20] + excluded.minutes[20],
        c.minutes[21] + excluded.minutes[21], c.minutes[22] + excluded.minutes[22], c.minutes[23] + excluded.minutes[23], c.minutes[24] + excluded.minutes[24],
        c.minutes[25] + excluded.minutes[25], c.minutes[26] + excluded.minutes[26], c.minutes[27] + excluded.minutes[27], c.minutes[28] + excluded.minutes[28],
        c.minutes[29] + excluded.minutes[29], c.minutes[30] + excluded.minutes[30], c.minutes[31] + excluded.minutes[31], c.minutes[32] + excluded.minutes[32],
        c.minutes[33] + excluded.minutes[33], c.minutes[34] + excluded.minutes[34], c.minutes[35] + excluded.minutes[35], c.minutes[36] + excluded.minutes[36],
        c.minutes[37] + excluded.minutes[37], c.minutes[38] + excluded.minutes[38], c.minutes[39] + excluded.minutes[39], c.minutes[40] + excluded.minutes[40],
        c.minutes[41] + excluded.minutes[41], c.minutes[42] + excluded.minutes[42], c.minutes[43] + excluded.minutes[43], c.minutes[44] + excluded.minutes[44],
        c.minutes[45] + excluded.minutes[45], c.minutes[46] + excluded.minutes[46], c.minutes[47] + excluded.minutes[47], c.minutes[48] + excluded.minutes[48],
        c.minutes[49] + excluded.minutes[49], c.minutes[50] + excluded.minutes[50], c.minutes[51] + excluded.minutes[51], c.minutes[52] + excluded.minutes[52],
        c.minutes[53] + excluded.minutes[53], c.minutes[54] + excluded.minutes[54], c.minutes[55] + excluded.minutes[55], c.minutes[56] + excluded.minutes[56],
        c.minutes[57] + excluded.minutes[57], c.minutes[58] + excluded.minutes[58], c.minutes[59] + excluded.minutes[59], c.minutes[60] + excluded.minutes[60]
    ]

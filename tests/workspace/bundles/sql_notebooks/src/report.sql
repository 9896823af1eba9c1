SELECT shop, count(*) FROM default.orders GROUP BY shop;
